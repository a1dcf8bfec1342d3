"""The study of how right estimators are: its pages and its figure, from a small grid."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.study.__main__ import main

GRID = """
name = "small"
[dataset]
name = "digits"
classes = [3, 8]
train = 60
test = 60
[recipe]
model = "linear"
train = "additive:sums"
[probe]
controls = 10
calibration = 2
[[attack]]
name = "none"
[[estimator]]
name = "toy_estimator:Flat"
[[estimator]]
name = "additive:Sums"
factor = [1.0, -1.0]
[[truth]]
name = "datamodeling"
subsets = 12
repeats = 2
points = 6
"""
LEFT_OUT = """
[[truth]]
name = "left-out"
size = [1, 5]
groups = 8
repeats = 1
points = 6
"""


def shown(tmp_path: Path, text: str) -> list[list[str]]:
    """The cells of all lines of tables that the command prints."""
    grid = tmp_path / "small.toml"
    grid.write_text(text, encoding="utf-8")
    figure = tmp_path / "truth.svg"
    folder = str(tmp_path / "run")
    arguments = ["truth", str(grid), "-o", folder, "--figure", str(figure)]
    result = CliRunner().invoke(main, [*arguments, "--workers", "0"])
    assert result.exit_code == 0, result.output
    assert "## digits 3 8 linear" in result.output
    drawn = figure.read_text(encoding="utf-8")
    assert "linear datamodeling score" in drawn
    lines = [line for line in result.output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_one_command_runs_the_grid_and_shows_the_best_estimator_first(tmp_path: Path):
    lines = shown(tmp_path, GRID + LEFT_OUT)
    scores = {line[0]: line[1] for line in lines[2:5]}
    assert list(scores) == ["Sums factor=1", "Sums factor=-1", "Flat"]
    assert scores["Sums factor=1"].startswith("1.000")
    assert scores["Sums factor=-1"].startswith("-1.000")
    assert scores["Flat"] == "- (constant predictions)"
    assert lines[5] == ["without", "random 1", "random 5"]
    assert lines[7] == ["Sums factor=1", "1.00", "1.00"]
    # one training a group: its noise is not known
    assert lines[-1] == ["*reliability*", "-", "-"]


def test_an_estimator_of_fewer_seeds_says_so_and_the_others_are_counted(tmp_path: Path):
    few = GRID.replace("factor = [1.0, -1.0]", "factor = 1.0")
    shown(tmp_path, few)
    many = GRID.replace('name = "small"', 'name = "small"\nseeds = [0, 1]')
    many = many.replace("factor = [1.0, -1.0]", "factor = -1.0")
    lines = shown(tmp_path, many)
    names = [line[0] for line in lines[2:]]
    assert names == ["Sums factor=1 (seeds 0)", "Sums factor=-1", "Flat"]


def test_without_groups_there_is_one_table(tmp_path: Path):
    lines = shown(tmp_path, GRID)
    assert len(lines) == 5


def test_the_grids_of_the_study_judge_the_same_scenes():
    from experiments.plan.gridfile import read
    from experiments.plan.parse import parse

    grids = Path(__file__).parent.parent / "experiments" / "grids"
    pytest.importorskip("kronfluence")
    pytest.importorskip("trak")
    ours = parse(read(grids / "truth-digits.toml"))
    peers = parse(read(grids / "truth-digits-peers.toml"))
    assert ours.scenes == peers.scenes
    assert ours.of("truth") == peers.of("truth")
