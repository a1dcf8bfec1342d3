"""The check of a machine with a GPU, at sizes that a CPU does, and cut off."""

import contextlib
import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from experiments.gpu.__main__ import main
from experiments.gpu.recipes import RECIPES
from experiments.gpu.record import Found, Record, told
from experiments.gpu.reference import reference
from experiments.gpu.setting import Setting


def run(folder: Path, *arguments: str) -> dict[str, Found]:
    """The measurements that a small run on the CPU leaves."""
    how = ["--small", "--device", "cpu", "--data-root", str(folder), "-o", str(folder)]
    done = CliRunner().invoke(main, [*arguments, *how], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    record = json.loads((folder / "bench.json").read_text())
    assert record["about"]["small"]
    return record["measurements"]


@pytest.fixture(autouse=True)
def _no_data_set_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POISONBENCH_DATA", "")


def test_measurements_are_taken_and_written(tmp_path: Path):
    names = ("training steps", "tracin, cnn", "gas, cnn", "bulk, cnn")
    chosen = [part for name in names for part in ("--only", name)]
    found = run(tmp_path, "bench", *chosen)
    assert found.keys() == set(names)
    assert not [name for name in names if "failed" in found[name]]
    assert found["gas, cnn"]["checkpoints"] == 5
    assert found["bulk, cnn"]["models"] == 4
    scored = found["tracin, cnn"]
    tenth = scored["floor: passes / 10, s"] + scored["floor: product / 10, s"]
    floor = 10 * tenth + scored["floor: test, s"]
    assert scored["x floor"] == pytest.approx(scored["scores, s"] / floor, rel=0.2)


def test_screened_rows_are_held_against_all(tmp_path: Path):
    found = run(tmp_path, "bench", "--only", "screening")
    assert found.keys() == {"screening, cnn", "screening, resnet9"}
    for one in found.values():
        assert "failed" not in one, one
        for size, batches in ((32, 1), (10, 3), (1, 3)):
            told = one[f"{size} at a time"]
            assert told["batches"] == batches
            assert told["points"] == min(32, size * batches)
            assert 20 <= told["rows of a point"] <= 32
            assert told["recall of 10"] == "1.000 [1.000, 1.000]"
            ratio = told["all rows, s"] / told["screened, s"]
            assert told["times as fast"] == pytest.approx(ratio, rel=0.05)


def test_recipes_are_judged_on_rows_that_they_were_not_trained_on(tmp_path: Path):
    found = run(tmp_path, "bench", "--only", "recipes")["recipes"]
    found.pop("took, s")
    assert len(found) == len(RECIPES)
    for one in found.values():
        assert one["n"] + one["held out"] == 32
        assert 0 <= one["right"] <= 1
        assert len(one["losses"]) == one["epochs"]


def test_every_lower_precision_is_measured_beside_full_float32(tmp_path: Path):
    names = ("precisions, resnet9", "gas, resnet9, bf16")
    chosen = [part for name in names for part in ("--only", name)]
    found = run(tmp_path, "bench", *chosen)
    assert not [name for name in names if "failed" in found[name]]
    assert found["gas, resnet9, bf16"]["precision"] == "bf16"
    assert found["gas, resnet9, bf16"]["batch"] > 1
    for method in ("tracin", "gas"):
        spent = found["precisions, resnet9"][method]
        assert spent["tf32, apart"]["norm"] == 0, "a CPU has none"
        assert 1e-5 < spent["bf16, apart"]["norm"] < 0.1
        assert spent["bf16, apart"]["largest"] < 0.5


def test_without_time_nothing_is_begun(tmp_path: Path):
    found = run(tmp_path, "bench", "--only", "bulk", "--seconds", "0")
    assert {told["failed"] for told in found.values()} == {"no time left"}


def test_what_was_found_before_the_cut_is_kept(tmp_path: Path):
    record = Record(tmp_path / "part.json", {"machine": "made up"})
    found: Found = {}
    start = time.monotonic()
    with told(found, 0.05):
        found["first"] = 1
        while time.monotonic() < start + 30:
            with contextlib.suppress(Exception):
                time.sleep(1)
        found["second"] = 2
    record.keep("slow", found)
    kept = json.loads((tmp_path / "part.json").read_text())["measurements"]["slow"]
    assert kept["first"] == 1
    assert "second" not in kept
    assert "0 s" in kept["failed"]


def test_a_failure_is_told_and_the_next_goes_on(tmp_path: Path):
    record = Record(tmp_path / "part.json", {})
    for name in ("bad", "good"):
        found: Found = {}
        with told(found, 30):
            if name == "bad":
                raise RuntimeError("out of luck")
            found["value"] = 3
        record.keep(name, found)
    kept = json.loads((tmp_path / "part.json").read_text())["measurements"]
    assert kept["bad"]["failed"] == "RuntimeError: out of luck"
    assert kept["good"] == {"value": 3}


@pytest.mark.slow
def test_the_grid_is_run_and_its_tables_kept_and_an_end_is_an_interruption(
    tmp_path: Path,
):
    setting = Setting(torch.device("cpu"), True, tmp_path, tmp_path / "logs")
    cut: Found = {}
    with told(cut, 20.5):
        reference(0, setting, cut)
    assert cut["exit code"] != 0
    found: Found = {}
    with told(found, 120):
        reference(0, setting, found)
    assert found["exit code"] == 0, found["messages"]
    victims = found["tables"]["victims"]
    attacks = [row["settings"]["attack"]["name"] for row in victims]
    assert attacks == ["none", "patch"]
    assert [len(curve) for curve in found["losses"].values()] == [1, 1]
