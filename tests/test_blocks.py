"""Influence in blocks of training rows: what a kill costs, and that nothing else changes."""

from pathlib import Path

import pytest
import torch
import toy_estimator
from test_run import assert_same, grid, results

from estimators import ESTIMATORS
from estimators.gas import GAS
from estimators.tracin import TracIn
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from experiments.scene.kinds import blocks
from poisonbench import log
from poisonbench.data import load
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

SIZE = 112  # rows of a block for 50 points, with the numbers below
BOTH = [range(112), range(112, 200)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LEAST", 64)
    monkeypatch.setattr(blocks, "MULTIPLE", 16)
    monkeypatch.setattr(toy_estimator, "asked", [])


@pytest.fixture(scope="module")
def trace() -> Trace:
    data, _ = load("digits")
    recipe = Recipe("cnn", epochs=2, batch_size=32, checkpoints=2)
    return train(data.take(torch.arange(150)), recipe, 0)


def by_rows(**fields: int) -> dict:
    return {"name": "toy_estimator:ByRows", **fields}


@pytest.mark.parametrize(
    "estimator",
    [
        TracIn(),
        TracIn(renormalize=True),
        TracIn(layers="last"),
        TracIn(weights="balanced"),
        GAS(),
        GAS(layerwise=True),
    ],
    ids=repr,
)
def test_blocks_side_by_side_are_the_whole(estimator: TracIn | GAS, trace: Trace):
    points = load("digits")[1].take(torch.arange(20))
    whole = estimator.fit(trace)(points)
    scorer = estimator.fit_rows(trace)
    assert scorer is not None
    bounds = (range(64), range(64, 65), range(65, 150))
    parts = [scorer(points, rows) for rows in bounds]
    assert [part.shape for part in parts] == [(20, 64), (20, 1), (20, 85)]
    scale = float(whole.abs().max())
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6 * scale)


def test_what_cannot_be_scored_by_rows_says_so(trace: Trace):
    assert TracIn(mode="steps").fit_rows(trace) is None
    assert TracIn(projection=8).fit_rows(trace) is None
    able = {name for name, kind in ESTIMATORS.items() if hasattr(kind, "fit_rows")}
    assert able == {"tracin", "gas"}


@pytest.mark.parametrize(
    ("m", "rows"), [(1, 8192), (4096, 8192), (4097, 9216), (50_000, 100_352)]
)
def test_a_block_has_at_least_twice_the_rows_of_the_probe(
    m: int, rows: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()
    assert blocks.rows_of_block(m) == rows


def test_a_grid_in_blocks_is_the_grid_and_tells_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = [{"name": "tracin"}, {"name": "gas"}, {"name": "representer-point"}]
    run(grid(estimator=names), Place(tmp_path / "blocks"), Options(workers=0))
    monkeypatch.setattr(blocks, "LEAST", 1000)
    run(grid(estimator=names), Place(tmp_path / "whole"), Options(workers=0))
    found, want = results(tmp_path / "blocks"), results(tmp_path / "whole")
    assert found.keys() == want.keys()
    for name, record in found.items():
        if record.kind == "influence":
            scores = record.data["influence"]
            scale = abs(scores).max()
            assert abs(scores - want[name].data["influence"]).max() < 1e-5 * scale
            told = record.attributes
            if "representer" not in name:
                assert told["block_rows"] == SIZE
                assert told["block_bytes"] == SIZE * 50 * 4
                assert told["score_seconds"] > 0
            assert "block_rows" not in want[name].attributes
    assert not list(tmp_path.rglob("scratch/*"))


def test_a_run_that_stops_loses_the_block_at_work_alone(tmp_path: Path):
    undisturbed = grid(estimator=[by_rows()], detector=[])
    run(undisturbed, Place(tmp_path / "whole"), Options(workers=0))
    assert toy_estimator.asked == BOTH
    want = results(tmp_path / "whole")
    [name] = [name for name in want if "influence" in name]
    assert want[name].attributes["note_last_row"] == 199
    assert want[name].data["influence"].shape == (50, 200)

    folder = tmp_path / "stopped"
    toy_estimator.asked.clear()
    left = _run_that_stops(folder)
    assert toy_estimator.asked == BOTH
    assert [path.name for path in left] == ["rows-0-112.h5"]
    toy_estimator.asked.clear()
    again = run(undisturbed, Place(folder), Options(workers=0, retry_failed=True))
    assert (again.failed, toy_estimator.asked) == ([], BOTH[1:])
    assert_same(results(folder), want)
    assert results(folder)[name].attributes["note_last_row"] == 199


def _run_that_stops(folder: Path) -> list[Path]:
    """A run that ends in the second block; returns the blocks that it left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_estimator, "STOP", 150)
        plan = grid(estimator=[by_rows()], detector=[])
        summary = run(plan, Place(folder), Options(workers=0))
    assert "stopped" in summary.failed[0]
    return sorted(folder.rglob("rows-*.h5"))


@pytest.mark.parametrize("fault", ["damaged", "other threads"])
def test_a_block_that_is_no_good_is_made_again(fault: str, tmp_path: Path):
    [block] = _run_that_stops(tmp_path)
    options = Options(workers=0, retry_failed=True)
    if fault == "damaged":
        content = bytearray(block.read_bytes())
        content[len(content) // 2 :] = b""
        block.write_bytes(content)
    else:
        options = Options(workers=0, retry_failed=True, threads=2)
    toy_estimator.asked.clear()
    threads = torch.get_num_threads()
    run(grid(estimator=[by_rows()], detector=[]), Place(tmp_path), options)
    torch.set_num_threads(threads)
    assert toy_estimator.asked == BOTH


def test_a_block_of_an_estimator_that_changed_its_data_is_not_kept(tmp_path: Path):
    plan = grid(estimator=[by_rows(changes_at=150)], detector=[])
    summary = run(plan, Place(tmp_path), Options(workers=0))
    assert "changed what it may only read" in summary.failed[0]
    [kept] = tmp_path.rglob("rows-*.h5")
    assert kept.name == "rows-0-112.h5"


def test_a_block_of_the_wrong_shape_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def short(self: object, trace: Trace) -> object:
        return lambda test, rows: torch.zeros(len(test), 3)

    monkeypatch.setattr(toy_estimator.ByRows, "fit_rows", short)
    plan = grid(estimator=[by_rows()], detector=[])
    summary = run(plan, Place(tmp_path), Options(workers=0))
    assert "not (m, rows) = (50, 112)" in summary.failed[0]
    assert log.read(next(tmp_path.rglob("failed-*.h5")), "failure").kind == "failure"
