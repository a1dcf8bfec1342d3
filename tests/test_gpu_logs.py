"""Grids on the device: broken off, they go on to the same logs; and with a victim of the CPU."""

import shutil
from pathlib import Path

import pytest
import torch
from on_device import agree, gpu
from test_run import assert_same, results

from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.log import names

pytestmark = gpu

SMALL = {
    "dataset": {"name": "digits", "train": 200, "test": 150},
    "recipe": {"model": "linear", "epochs": 2, "checkpoints": 2},
    "probe": {"attacked": 3, "controls": 6, "calibration": 20},
    "attack": [{"name": "patch", "budget": 0.05}],
    "estimator": [{"name": "gas"}, {"name": "representer-point"}],
    "detector": [{"name": "tail-heaviness", "k": 3}, {"name": "foreign-or-fragile"}],
    "group": [{"name": "random", "k": 5}],
}
# a stage of every kind but groups, whose second order takes long
WHOLE = {
    **{part: SMALL[part] for part in ("dataset", "recipe", "probe", "attack")},
    "estimator": [{"name": "gas"}, {"name": "downsampling", "models": 8}],
    "detector": [{"name": "tail-heaviness", "k": 3}, {"name": "removal-by-retraining"}],
    "filter": [{"name": "spectral-signatures"}, {"name": "loss-rank"}],
    "mitigation": [{"name": "filter-retrain"}, {"name": "target-driven"}],
    "certifier": [{"name": "deep-partition-aggregation", "parts": 5, "epochs": 2}],
    "memorisation": [{"name": "self-influence"}],
    "truth": [{"name": "datamodeling", "subsets": 8, "repeats": 2, "points": 10}],
}


def done(grid: dict, folder: Path, device: str = "cuda") -> dict[str, log.Record]:
    """Runs a grid in this process; returns all logs that are there then."""
    summary = run(parse(grid), Place(folder, device), Options(workers=0))
    assert summary.failed == []
    return results(folder)


def broken_off(grid: dict, folder: Path, writes: int) -> None:
    """Runs a grid until so many files are written, and ends it as Ctrl-C does."""
    real = log.write
    left = writes

    def write(*args: object, **kwargs: object) -> object:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "write", write)
        with pytest.raises(KeyboardInterrupt):
            done(grid, folder)


def test_a_run_that_is_broken_off_goes_on_to_the_same_logs(tmp_path: Path):
    whole = done(WHOLE, tmp_path / "whole")
    folder = tmp_path / "broken"
    broken_off(WHOLE, folder, 1)
    broken_off(WHOLE, folder, len(whole) // 2)
    assert 1 < len(results(folder)) < len(whole)
    assert_same(done(WHOLE, folder), whole)


def test_the_device_goes_on_with_a_victim_of_the_cpu(tmp_path: Path):
    here = done(SMALL, tmp_path / "here", "cpu")
    victims = {
        name for name, record in here.items() if record.kind in ("scene", "trace")
    }
    for name in victims:
        place = tmp_path / "there" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "here" / name, place)
    there = done(SMALL, tmp_path / "there")
    assert there.keys() == here.keys()
    for name, record in here.items():
        if record.kind == "influence":
            want = torch.from_numpy(record.data[names.INFLUENCE])
            got = torch.from_numpy(there[name].data[names.INFLUENCE])
            agree(got, want, rtol=1e-4)
