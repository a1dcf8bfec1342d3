"""What lies in a folder already: damaged files are told, not counted as done; so are versions."""

import os
import platform
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli import main
from experiments.plan.cells import WORKING, seconds_of
from experiments.plan.stages import Stage
from experiments.runner import worker
from poisonbench import log

GRID = """
name = "existing"
[dataset]
name = "digits"
train = 100
test = 100
[recipe]
model = "linear"
epochs = 1
checkpoints = 2
[probe]
attacked = 5
controls = 10
calibration = 10
[[attack]]
name = "patch"
budget = 0.05
[[detector]]
name = "confidence"
[[detector]]
name = "random"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "grid.toml").write_text(GRID)
    logs = tmp_path / "logs"
    called("run", str(tmp_path / "grid.toml"), "-o", str(logs), "--workers", "0")
    return logs


def called(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def test_a_damaged_file_is_told_and_does_not_count(folder: Path):
    path = next(folder.rglob("detect-*random*.h5"))
    path.write_bytes(path.read_bytes()[:2000])
    told = called("status", str(folder))
    assert told.exit_code == 3
    assert "3 cells, 2 done" in told.output
    assert f"Error: {path}" in told.output
    grid = str(folder.parent / "grid.toml")
    again = called("run", grid, "-o", str(folder), "--workers", "0")
    assert again.exit_code == 3
    assert again.output.count(f"Error: {path}") == 1
    path.unlink()
    assert called("run", grid, "-o", str(folder), "--workers", "0").exit_code == 0
    assert called("status", str(folder)).exit_code == 0


def test_other_versions_are_told_by_run_status_and_evaluate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    here = log.versions_here()
    assert called("status", str(folder)).output.count("here is") == 0
    [stage] = folder.rglob("detect-*random*.h5")
    record = log.read(stage)
    stage.unlink()
    monkeypatch.setattr(
        "poisonbench.log.writing.provenance",
        lambda: {"poisonbench": "0.0", "torch": ""},
    )
    log.write(stage, record.kind, config=record.config, data=record.data)
    monkeypatch.undo()
    other = "poisonbench 0.0, torch unknown"
    line = f"1 cell was made by {other}; here is {here}"
    assert line in called("status", str(folder)).output
    grid = str(folder.parent / "grid.toml")
    assert line in called("run", grid, "-o", str(folder), "--workers", "0").output
    assert line in called("run", grid, "-o", str(folder), "--dry-run").output
    shown = called("evaluate", str(folder)).output
    assert f"1 log by {other}" in shown
    assert f"3 logs by {here}" in shown


def test_another_processor_is_told_by_run_status_and_evaluate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    here = log.processor()
    [stage] = folder.rglob("detect-*random*.h5")
    record = log.read(stage)
    assert record.attributes["processor"] == here
    assert "logs on" not in called("evaluate", str(folder)).output
    stage.unlink()
    there = {**log.provenance(), "processor": "Z80"}
    monkeypatch.setattr("poisonbench.log.writing.provenance", lambda: there)
    log.write(stage, record.kind, config=record.config, data=record.data)
    monkeypatch.undo()
    line = f"1 cell was made on Z80; here is {here}"
    assert line in called("status", str(folder)).output
    grid = str(folder.parent / "grid.toml")
    assert line in called("run", grid, "-o", str(folder), "--workers", "0").output
    shown = called("evaluate", str(folder)).output
    assert f"3 logs on {here}\n1 log on Z80" in shown


def test_logs_that_name_no_processor_are_not_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    [stage] = folder.rglob("detect-*random*.h5")
    record = log.read(stage)
    stage.unlink()
    older = {k: v for k, v in log.provenance().items() if k != "processor"}
    monkeypatch.setattr("poisonbench.log.writing.provenance", lambda: older)
    log.write(stage, record.kind, config=record.config, data=record.data)
    monkeypatch.undo()
    assert "here is" not in called("status", str(folder)).output
    assert "logs on" not in called("evaluate", str(folder)).output


def test_status_tells_the_reason_of_a_failure_and_the_time_left(folder: Path):
    grid = folder.parent / "grid.toml"
    bad = '[[detector]]\nname = "toy_defense:Mischievous"\nwhat = "exit"\n'
    more = '[[estimator]]\nname = "gas"\n'
    grid.write_text("seeds = [0, 1]\n" + GRID + bad + more)
    called("run", str(grid), "-o", str(folder), "--workers", "0")
    [gone, _] = sorted(folder.rglob("detect-*random*.h5"))
    gone.unlink()
    told = called("status", str(folder)).output
    assert told.count("failed: detect-gas") == 2
    assert told.count(": SystemExit: 3") == 2
    assert "1 cell is missing: about 0 s of work\n" in told
    for path in folder.rglob("detect-*random*.h5"):
        path.unlink()
    told = called("status", str(folder)).output
    assert "about" not in told
    for path in [*folder.rglob("influence-*.h5")][:1]:
        path.unlink()
    told = called("status", str(folder)).output
    assert "3 cells are missing" in told
    assert "and 2 of which none like them is done" in told


@pytest.mark.parametrize("alive", [True, False])
def test_status_tells_what_is_at_work_unless_its_process_is_gone(
    folder: Path, alive: bool
):
    [scene] = (folder / "scenes").glob("*/")
    assert not (scene / WORKING).exists()
    process = os.getpid() if alive else 2**22 + 1
    text = f"influence-gas.h5\n{process} on {platform.node()}\n"
    (scene / WORKING).write_text(text)
    told = called("status", str(folder)).output
    assert (f"at work: influence-gas (pid {process} on" in told) == alive
    (scene / WORKING).write_text("\x1b[2J\n7 on elsewhere\n")
    told = called("status", str(folder)).output
    assert "at work:  [2J (pid 7 on elsewhere)" in told


def test_a_stage_at_work_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    for path in folder.rglob("detect-*random*.h5"):
        path.unlink()
    real = worker.SceneWork.do

    def looking(self: worker.SceneWork, stage: Stage) -> None:
        seen.append(called("status", str(folder)).output)
        real(self, stage)

    monkeypatch.setattr(worker.SceneWork, "do", looking)
    called("run", str(folder.parent / "grid.toml"), "-o", str(folder), "--workers", "0")
    [told] = seen
    assert f"(pid {os.getpid()} on {platform.node()})" in told
    assert "at work: detect-none-random" in told


def test_without_a_terminal_a_line_is_told_for_each_scene(folder: Path):
    grid = folder.parent / "grid.toml"
    grid.write_text("seeds = [1, 2]\n" + GRID)
    told = called("run", str(grid), "-o", str(folder), "--workers", "0").stderr
    assert "1 of 2 scenes, 3 of 6 cells, " in told
    assert "2 of 2 scenes, 6 of 6 cells, " in told


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ({"seconds": 2.0, "seconds_first": 1.0}, 2.0),
        ({"fit_seconds": 2.0, "score_seconds": 1.5}, 3.5),
        ({"seconds_attack": 1, "seconds_train": 2.5, "threads": 4}, 3.5),
        ({"seconds": float("nan"), "note": 5.0}, 0.0),
        ({"seconds": "many"}, 0.0),
    ],
)
def test_the_seconds_of_a_cell_are_those_of_its_log(attributes: dict, seconds: float):
    assert seconds_of(attributes) == seconds
