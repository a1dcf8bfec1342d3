"""A folder of logs is data: no code that it names is run unless it is trusted."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli import main
from experiments.plan.identity import code_named
from poisonbench import log

CODE = """
from pathlib import Path

Path("{mark}").write_text("it ran")

from attacks import ATTACKS
from poisonbench.data import load
from poisonbench.models.pictures import Classifier
from torch import nn

Mine = ATTACKS["patch"]


def data():
    train, test = load("digits")
    return train.take(train.y >= 0), test


def model(shape, classes):
    return Classifier(nn.Flatten(), nn.Linear(64, classes))
"""
GRID = """
name = "trust"
dataset = {{ name = "{data}", train = 100, test = 100 }}
[recipe]
model = "{model}"
epochs = 1
checkpoints = 2
[probe]
attacked = 5
controls = 10
calibration = 10
[[attack]]
name = "{attack}"
budget = 0.05
[[estimator]]
name = "gas"
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the code leaves when it is run."""
    path = tmp_path / "ran"
    (tmp_path / "strange_code.py").write_text(CODE.format(mark=path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "strange_code", None)
    del sys.modules["strange_code"]
    return path


def forget(mark: Path) -> None:
    """As in a new process: the code has not run."""
    mark.unlink(missing_ok=True)
    sys.modules.pop("strange_code", None)


def called(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def logs(folder: Path, **named: str) -> Path:
    """The folder of a run with these names."""
    names = {"data": "digits", "model": "linear", "attack": "patch", **named}
    (folder / "g.toml").write_text(GRID.format(**names))
    done = called("run", folder / "g.toml", "-o", folder / "logs", "--workers", 0)
    assert done.exit_code == 0, done.output
    return folder / "logs"


def scene_of(folder: Path) -> Path:
    [path] = folder.glob("scenes/*/scene.h5")
    return path


@pytest.mark.parametrize("command", ["export", "explain"])
@pytest.mark.parametrize("part", ["data", "model", "attack"])
def test_a_log_that_names_code_runs_it_only_when_it_is_trusted(
    command: str, part: str, tmp_path: Path, mark: Path
):
    names = {"data": "data", "model": "model", "attack": "Mine"}
    folder = logs(tmp_path, **{part: f"strange_code:{names[part]}"})
    assert mark.exists()
    forget(mark)
    more = ["-o", tmp_path / "p.h5"] if command == "export" else []
    told = called(command, scene_of(folder), *more)
    assert not mark.exists()
    if part != "data":
        assert told.exit_code == 0, told.output
        return
    assert told.exit_code == 2
    assert "names code: dataset 'strange_code:data'" in told.stderr
    assert "--trust" in told.stderr
    assert called(command, scene_of(folder), *more, "--trust").exit_code == 0
    assert mark.exists()


def test_status_reads_names_as_text(tmp_path: Path, mark: Path):
    folder = logs(tmp_path, attack="strange_code:Mine")
    forget(mark)
    assert "strange_code:Mine" in called("status", folder).output
    assert not mark.exists()
    (folder / "cells.json").unlink()
    told = called("status", folder)
    assert told.exit_code == 2
    assert "names code: strange_code:Mine" in told.stderr
    assert not mark.exists()
    assert called("status", folder, "--trust").exit_code == 0
    assert mark.exists()


@pytest.mark.parametrize("command", ["evaluate", "status"])
def test_reading_a_run_runs_none_of_its_code(command: str, tmp_path: Path, mark: Path):
    folder = logs(
        tmp_path,
        data="strange_code:data",
        model="strange_code:model",
        attack="strange_code:Mine",
    )
    forget(mark)
    assert called(command, folder).exit_code == 0
    files = [*folder.rglob("*.h5")]
    assert called("show", *files).exit_code == 0
    assert not mark.exists()


def test_a_report_shows_no_instances_of_code_that_is_not_trusted(
    tmp_path: Path, mark: Path
):
    folder = logs(tmp_path, data="strange_code:data")
    forget(mark)
    assert called("report", folder).exit_code == 0
    assert not mark.exists()
    page = (folder / "report.html").read_text()
    assert "names code: dataset &#39;strange_code:data&#39;" in page
    assert "data:image/png" not in page
    assert called("report", folder, "--trust").exit_code == 0
    assert "data:image/png" in (folder / "report.html").read_text()


def test_a_trusted_export_holds_what_the_attack_says_of_itself(
    tmp_path: Path, mark: Path
):
    folder = logs(tmp_path, attack="strange_code:Mine")
    forget(mark)
    called("export", scene_of(folder), "-o", tmp_path / "a.h5")
    called("export", scene_of(folder), "-o", tmp_path / "b.h5", "--trust")
    assert mark.exists()
    plain = log.read(tmp_path / "a.h5").config["claims"]
    trusted = log.read(tmp_path / "b.h5").config["claims"]
    assert plain.items() <= trusted.items()


def test_names_of_code_are_found_wherever_they_stand():
    config = {
        "dataset": "mine:data",
        "recipe": {"model": "mine:Net", "lr": 0.1, "schedule": "a:b"},
        "attack": [{"name": "patch"}, {"name": "mine:Attack"}, {"name": "mine:Net"}],
    }
    assert code_named(config) == ["mine:data", "mine:Net", "mine:Attack"]
