"""The victims of a grid beside clean ones: shares and pairs, counted anew."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench.commands.victims import as_table, beside_clean
from experiments.plan.gridfile import read
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from experiments.scene.victim import make_victim
from poisonbench.errors import ConfigError
from poisonbench.models import predict

GRID = """
name = "small"
seeds = [0, 1]
dataset = { name = "digits", train = 200, test = 150 }
[recipe]
model = "linear"
epochs = 3
[[attack]]
name = "none"
[[attack]]
name = "patch"
budget = 0.2
"""


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid file, run in the folder beside it."""
    path = tmp_path_factory.mktemp("victims") / "grid.toml"
    path.write_text(GRID, encoding="utf-8")
    run(parse(read(path)), Place(path.parent / "logs"), Options(workers=0))
    return path


def test_success_and_accuracy_are_those_of_the_scene_and_of_the_clean_victim(grid):
    rows = beside_clean(grid, grid.parent / "logs")
    assert len(rows) == 2
    scenes = parse(read(grid)).scenes
    victims = {
        (scene.attack.name, scene.seed): make_victim(scene, Place(grid.parent / "logs"))
        for scene in scenes
    }
    for seed, row in enumerate(rows):
        patched, clean = victims["patch", seed], victims["none", seed]
        shown, test = patched.attacked.points, clean.clean.test
        hits = [
            int((predict(v.trace.model(), shown.x).argmax(1) == 0).sum())
            for v in (patched, clean)
        ]
        right = [
            int((predict(v.trace.model(), test.x).argmax(1) == test.y).sum())
            for v in (patched, clean)
        ]
        assert row.points == len(shown)
        assert row.success == pytest.approx(hits[0] / len(shown))
        assert row.clean_success == pytest.approx(hits[1] / len(shown))
        assert row.lost == pytest.approx(100 * (right[1] - right[0]) / 150)


def test_the_interval_of_pairs_is_students(grid):
    row = beside_clean(grid, grid.parent / "logs")[0]
    pair = [replace(row, lost=1.0), replace(row, lost=3.0)]
    text = as_table(pair).splitlines()[-1]
    assert "2.0 [-10.7, 14.7]" in text  # 12.71 standard errors of 1 on either side


def test_scenes_that_were_not_run_or_have_no_clean_victim_are_told(grid, tmp_path):
    with pytest.raises(ConfigError, match="lacks digits-linear-none-s0"):
        beside_clean(grid, tmp_path)
    alone = tmp_path / "alone.toml"
    alone.write_text(GRID.replace('[[attack]]\nname = "none"\n', ""), encoding="utf-8")
    with pytest.raises(ConfigError, match="has no clean victim"):
        beside_clean(alone, grid.parent / "logs")
