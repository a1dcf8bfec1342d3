"""What lies in a folder already: damaged files are told, not counted as done; so are versions."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli import main
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
