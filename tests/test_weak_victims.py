"""Victims far below what their model reaches are said to be so, and no others."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluate import scene_config, write_detect, write_scene

from experiments.cli import main
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.weak_victims import (
    REACHED,
    is_far_below,
    reference_of,
    weak_scenes,
)
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.report.render import render
from poisonbench import log
from poisonbench.data import DATASETS
from poisonbench.data.classes import named_classes
from poisonbench.models import MODELS

PATCH = {"name": "patch"}
TREE = Path(__file__).parent.parent / "experiments"


def scene(folder: Path, correct: int, config: dict, targets=(8, 10)) -> Path:
    """A scene of 100 clean test points of which so many are right."""
    place = write_scene(folder, config, targets=targets)
    record = log.read(place / "scene.h5")
    data = {**record.data, "clean/correct": np.array(correct)}
    (place / "scene.h5").unlink()
    log.write(
        place / "scene.h5",
        "scene",
        config=config,
        data=data,
        attributes={"seconds_train": 1.0},
    )
    return place


@pytest.mark.parametrize(
    ("accuracy", "reference", "weak"),
    [
        (0.69, 0.80, True),  # more than ten points lost
        (0.71, 0.80, False),
        (0.85, 0.94, True),  # 15 % wrong where 6 % are possible
        (0.89, 0.94, False),  # 11 %: less than twice as many
        (0.96, 0.99, False),  # four times the error, but a tenth is not reached
        (0.99, 0.90, False),
    ],
)
def test_a_victim_is_weak_ten_points_below_or_at_twice_an_error_above_a_tenth(
    accuracy: float, reference: float, weak: bool
):
    assert is_far_below(accuracy, reference) == weak


def test_tables_and_run_tell_of_a_weak_victim(tmp_path: Path):
    place = scene(tmp_path, 60, scene_config(PATCH))
    write_detect(place, [9] * 4 + [1] * 11)
    results = load_results(tmp_path)
    told = "weak victim: cnn reaches 0.97 on all rows of digits"
    [victim] = rows_of(results, "scene")
    [detection] = rows_of(results, "detect")
    assert victim.metrics["clean_accuracy"].reason.startswith(told)
    assert detection.metrics["auroc"].reason.startswith(told)
    assert render(results).replace("\n", " ").count(told) == 2
    [line] = weak_scenes(tmp_path)
    assert line.startswith(told)
    assert line.endswith("(scenes: 1)")


@pytest.mark.parametrize(
    ("correct", "config"),
    [
        (90, scene_config(PATCH)),
        (60, scene_config(PATCH, dataset="package.module:data")),
        (60, scene_config(PATCH) | {"recipe": {"model": "package.module:net"}}),
        (60, scene_config(PATCH) | {"dataset": {"name": "digits", "classes": [0, 1]}}),
    ],
    ids=["strong", "data of one's own", "model of one's own", "other classes"],
)
def test_nothing_is_said_of_a_strong_victim_nor_where_nobody_knows_what_can_be_reached(
    tmp_path: Path, correct: int, config: dict
):
    write_detect(scene(tmp_path, correct, config), [9] * 4 + [1] * 11)
    assert "weak" not in render(load_results(tmp_path))
    assert weak_scenes(tmp_path) == []


def test_an_attack_on_accuracy_itself_is_not_called_a_weak_victim(tmp_path: Path):
    scene(tmp_path, 20, scene_config({"name": "random-labels"}), targets=(0, 0))
    assert weak_scenes(tmp_path) == []
    scene(tmp_path, 20, scene_config({"name": "none"}), targets=(0, 0))
    assert len(weak_scenes(tmp_path)) == 1


def test_a_mean_tells_how_many_of_its_victims_are_weak(tmp_path: Path):
    for seed, correct in enumerate((60, 98, 98)):
        scene(tmp_path, correct, scene_config(PATCH, seed))
    [mean] = aggregate(rows_of(load_results(tmp_path), "scene"))
    assert mean.metrics["clean_accuracy"].reason.startswith("in 1 of 3 scenes: weak")


def test_references_name_what_there_is_and_a_page_or_grid_of_the_tree():
    for reached in REACHED:
        assert reached.dataset in DATASETS
        assert reached.model in MODELS
        assert named_classes(reached.dataset, reached.classes) == reached.classes
        assert (TREE / reached.source).exists()
        assert 0.5 < reached.accuracy < 1
        config = {
            "dataset": {"name": reached.dataset, "classes": list(reached.classes)},
            "recipe": {"model": reached.model},
        }
        assert reference_of(config) == reached


def test_run_says_so_at_its_end(tmp_path: Path):
    grid = tmp_path / "g.toml"
    grid.write_text(
        'dataset = {name = "digits", train = 20, test = 100}\n'
        "[recipe]\nepochs = 1\ncheckpoints = 1\n"
        '[[attack]]\nname = "none"\n'
    )
    command = ["run", str(grid), "-o", str(tmp_path / "logs"), "--workers", "1"]
    told = CliRunner().invoke(main, command).stderr
    assert "weak victim: cnn reaches 0.97 on all rows of digits" in told
