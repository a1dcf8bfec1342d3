"""A file of the working directory with the name of a package of ours takes nobody's place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli.search_path import look_last

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("attacks", "defenses", "estimators", "experiments", "poisonbench")
MINE = '''"""Bright corner (me, 2026)."""

from dataclasses import dataclass

from attacks import Patch


@dataclass(frozen=True)
class Mine(Patch):
    """A patch of my own.

    Attributes:
        target: the label that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
    """
'''
GRID = """
name = "mine"
seeds = [0]
dataset = {name = "digits", train = 100, test = 60}
[recipe]
model = "linear"
epochs = 1
checkpoints = 1
[probe]
attacked = 5
controls = 6
calibration = 6
[[attack]]
name = "mine:Mine"
budget = 0.05
"""
CONSOLE = ["-c", "from experiments.cli import main; main()"]
MODULE = ["-m", "experiments.cli"]
CHECK = ["check", "attack", "mine:Mine", "--no-victim"]
RUN = ["run", "grid.toml", "-o", "logs", "--workers", "1"]


def fill(folder: Path, names: tuple[str, ...]) -> None:
    """A module of one's own, a grid that names it, and clashes: files and packages in turn."""
    (folder / "mine.py").write_text(MINE)
    (folder / "grid.toml").write_text(GRID)
    for i, name in enumerate(names):
        if i % 2:
            (folder / f"{name}.py").write_text("raise RuntimeError('taken')")
        else:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text("raise RuntimeError('taken')")


@pytest.mark.parametrize(
    ("start", "words", "names"),
    [
        ([*CONSOLE, *RUN], "1 cells in logs", NAMES),
        ([*MODULE, *CHECK], "rules kept", ("defenses", "attacks", "estimators")),
    ],
    ids=["console-run", "module-check"],
)
def test_no_name_in_the_working_directory_hides_a_package(
    start: list[str], words: str, names: tuple[str, ...], tmp_path: Path
):
    fill(tmp_path, names)
    # -P: like a console script, python itself does not add the working directory
    safe = ["-P"] if start[0] == "-c" else []
    done = subprocess.run(
        [sys.executable, *safe, *start],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert words in told
    assert "taken" not in told
    for name in names:
        assert (
            sum(f"Warning: {name}" in line for line in done.stderr.splitlines()) == 1
        ), told


@pytest.mark.parametrize("entry", ["", ".", "{here}", "{here}/"])
def test_the_working_directory_comes_last_however_it_is_written(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    before = ["/a", "/b"]
    monkeypatch.setattr(sys, "path", [entry.format(here=tmp_path), *before])
    look_last(Path.cwd())
    look_last(Path.cwd())
    assert sys.path == [*before, str(tmp_path.resolve())]


def test_the_source_tree_stays_where_it_is(monkeypatch: pytest.MonkeyPatch):
    before = [str(ROOT), "/a"]
    monkeypatch.setattr(sys, "path", list(before))
    look_last(ROOT)
    assert sys.path == before
