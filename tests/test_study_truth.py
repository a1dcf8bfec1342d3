"""The study of how right estimators are: its pages and its figure, from a small grid."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure

from experiments.evaluation.load import load_results
from experiments.evaluation.metrics import Metric
from experiments.study.__main__ import main
from experiments.study.truth.figure import Placed, numbered
from experiments.study.truth.judged import judged
from experiments.study.truth.tables import read
from poisonbench.errors import ConfigError

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


def test_a_page_tells_what_its_figure_shows(tmp_path: Path):
    shown(tmp_path, GRID + LEFT_OUT)
    result = CliRunner().invoke(main, ["truth", "-o", str(tmp_path / "run")])
    scene = "digits 3 8 linear"
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{result.output}\n## Next\n", encoding="utf-8")
    told = read(page, scene)
    known = [one.placed for one in judged(load_results(tmp_path / "run"))[scene]]
    assert [one.name for one in told] == [one.name for one in known]
    for ours, theirs in zip(told, known, strict=True):
        assert ours.seconds == pytest.approx(theirs.seconds, rel=0.01)
        assert ours.score.value == pytest.approx(theirs.score.value, abs=6e-4)
        assert ours.score.interval == pytest.approx(theirs.score.interval, abs=6e-4)
    figure = tmp_path / "again.svg"
    drawing = ["truth-figure", str(page), "--scene", scene, "-o", str(figure)]
    result = CliRunner().invoke(main, drawing)
    assert result.exit_code == 0, result.output
    assert known[0].name in figure.read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="no heading 'mnist cnn'"):
        read(page, "mnist cnn")
    with pytest.raises(ConfigError, match="no table of scores below 'Next'"):
        read(page, "Next")


def test_a_page_without_an_interval_still_tells_the_score(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("## a\n| x | -0.25 | - | - | 1e-05 | 2 |\n", encoding="utf-8")
    assert read(page, "a") == [Placed("x", Metric(-0.25), 2.00001)]


def test_numbers_of_points_that_lie_together_are_apart():
    figure = Figure(figsize=(5, 4))
    panel = figure.subplots()
    panel.set_xscale("log")
    seen = {1: (1.0, 0.5), 2: (1.0, 0.5), 3: (1.02, 0.5), 4: (100.0, 0.1)}
    panel.plot(*zip(*seen.values(), strict=True), "o")
    numbered(panel, seen)
    places = panel.transData.transform(list(seen.values()))
    pixels = figure.dpi / 72
    written = []
    for text, place in zip(panel.texts, places, strict=True):
        written.append(place + pixels * np.array(text.xyann))
    for k, one in enumerate(written):
        for other in written[:k]:
            assert np.hypot(*(one - other)) > 7 * pixels
