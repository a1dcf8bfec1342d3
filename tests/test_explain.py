"""One prediction in words: which training instances are named, in which order, and how."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from held_matrix import Held

from experiments.cli import main
from experiments.report.explanation.instances import MOST_FEATURES, Instances
from experiments.report.explanation.ranked import most_harmful, most_helpful
from experiments.report.explanation.text import explanation
from poisonbench.log import Array, Record, loading, names

VALUES = np.array([0.5, np.nan, 3.0, -2.0, 0.5, -1.0, np.inf], np.float32)
GRID = """
name = "small"
dataset = {name = "digits", train = 100, test = 60}
seeds = [0]
[recipe]
model = "linear"
epochs = 2
[probe]
attacked = 3
controls = 4
calibration = 3
[[attack]]
name = "patch"
budget = 0.1
[[estimator]]
name = "gas"
[[estimator]]
name = "tracin"
"""


def test_rows_come_by_influence_the_finite_ones_alone_and_ties_in_their_order() -> None:
    assert most_helpful(VALUES, 3).tolist() == [2, 0, 4]
    assert most_harmful(VALUES, 9).tolist() == [3, 5], "none that helped"
    assert most_harmful(VALUES, 1).tolist() == [3]


def sentences() -> Instances:
    words = ("<pad>", "<unknown>", "good", "film", "bad", "\x1b[31m")
    x = np.array(
        [[2, 3, 0], [4, 3, 3], [2, 0, 0], [4, 0, 0], [3, 3, 3], [5, 2, 0], [2, 2, 2]]
    )
    return Instances(x, np.array([1, 0, 1, 0, 1, 0, 1]), "tokens", words)


def logs() -> tuple[Record, Held]:
    data = {
        "probe/group": np.array([0, 3], np.uint8),
        "probe/predicted": np.array([1, 0]),
        "probe/wanted": np.array([1, -1]),
        "probe/y": np.array([0, 0]),
        "probe/x": np.array([[4, 1, 2], [4, 3, 0]]),
        "poison/role": np.array([0, 0, 1, 0, 2, 0, 0], np.uint8),
    }
    scene = Record(Path("s"), "scene", {}, data, {})
    return scene, Held(Path("i"), {"name": "gas"}, np.stack([VALUES, -VALUES]))


def test_a_prediction_is_explained_in_words_with_the_poison_marked() -> None:
    scene, influence = logs()
    told = explanation(scene, [influence], sentences(), point=0, top=3)
    assert told.split("\n") == [
        "attacked test point 0: true 0, predicted 1, wanted 1",
        "    bad <unknown> good",
        "",
        "gas: what helped this prediction most, 1 of 3 rows poison",
        "          +3  POISON  label 1  row 2",
        "            good",
        "        +0.5          label 1  row 0",
        "            good film",
        "        +0.5  COVER   label 1  row 4",
        "            film film film",
        "",
        "gas: what worked against it most",
        "          -2          label 0  row 3",
        "            bad",
        "          -1          label 0  row 5",
        "             [31m good",
    ]


def test_settings_of_one_estimator_are_told_apart() -> None:
    scene, influence = logs()
    other = Held(Path("i"), {"name": "gas", "layerwise": True}, influence.values)
    told = explanation(scene, [influence, other], sentences(), point=0, top=1)
    assert "\ngas: what helped" in told
    assert "\ngas layerwise=true: what helped" in told


def test_a_clean_point_and_what_nothing_worked_against() -> None:
    scene, influence = logs()
    influence.values[1] = np.abs(VALUES)
    told = explanation(scene, [influence], sentences(), point=1, top=2)
    assert told.startswith("clean test point for calibration 1: true 0, predicted 0\n")
    assert "wanted" not in told
    assert "against" not in told


def test_long_sentences_wrap_below_each_other() -> None:
    scene, influence = logs()
    long = Instances(np.full((7, 90), 2), np.zeros(7, int), "tokens", ("", "", "words"))
    told = explanation(scene, [influence], long, point=0, top=1)
    lines = told.split("\n")
    assert max(map(len, lines)) <= 100
    assert told.count("words") == 1 + 90 + 90


def test_a_vector_is_its_features_by_name_without_zeros_and_a_category_by_itself() -> (
    None
):
    x = np.array([[0.5, 1.0, 0.0, -1.25]], np.float32)
    columns = ("age", "sex=Male", "sex=Female", "hours")
    named = Instances(x, np.zeros(1), "vector", columns=columns)
    assert named.at(x[0]) == "age 0.5, sex=Male, hours -1.25"
    assert Instances(x, np.zeros(1), "vector").at(x[0]) == "x0 0.5, x1 1, x3 -1.25"
    many = -np.arange(1.0, 41.0)
    told = Instances(many[None], np.zeros(1), "vector").at(many).split(", ")
    assert told == [f"x{i} {-i - 1}" for i in range(40 - MOST_FEATURES, 40)]


@pytest.mark.parametrize("kind", ["image", "spectrogram"])
def test_pictures_have_no_words(kind: str) -> None:
    x = np.zeros((1, 1, 4, 4))
    assert Instances(x, np.zeros(1), kind).at(x[0]) == ""
    assert Instances(x, np.zeros(1), kind).are_pictures


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one scene."""
    place = tmp_path_factory.mktemp("run")
    (place / "grid.toml").write_text(GRID)
    done = CliRunner().invoke(
        main, ["run", str(place / "grid.toml"), "-o", str(place), "--workers", "0"]
    )
    assert done.exit_code == 0, done.output
    [scene] = (place / "scenes").iterdir()
    return scene


def test_a_scene_of_a_run_is_explained_and_drawn(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "x.png"
    arguments = ["explain", str(folder), "--top", "2", "-o", str(picture)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    heads = [line for line in done.output.split("\n") if "helped" in line]
    assert [head.partition(":")[0] for head in heads] == ["gas", "tracin"]
    assert picture.stat().st_size > 1000
    one = CliRunner().invoke(
        main, ["explain", str(folder / "scene.h5"), "--test", "4", "--estimator", "gas"]
    )
    assert one.output.startswith("clean test point 4: ")
    assert "tracin" not in one.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain", "SCENE"],
        ["explain", "SCENE", "-o", "PICTURE"],
        ["plot", "influence", "RUN", "-o", "PICTURE"],
        ["report", "RUN"],
    ],
    ids=" ".join,
)
def test_a_command_reads_the_influence_on_the_points_that_it_shows_alone(
    folder: Path,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {
        "SCENE": str(folder),
        "RUN": str(folder.parents[1]),
        "PICTURE": str(tmp_path / "x.png"),
    }
    points = []

    def counted(key: str, *how: Any) -> Array:
        array = loading.load(key, *how)
        if key == names.INFLUENCE:
            points.append(len(array))
        return array

    monkeypatch.setattr("poisonbench.log.reading.load", counted)
    done = CliRunner().invoke(main, [places.get(word, word) for word in arguments])
    assert done.exit_code == 0, done.output
    assert points, "it shows influence"
    assert max(points) <= 4, "of the 10 points: three that are shown, four compared"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test", "10"], "test point 10 is none of the 10 of the probe"),
        (["--test", "-1"], "test point -1 is none of the 10 of the probe"),
        (["--estimator", "hydra"], "no influence of hydra (it has: gas, tracin)"),
    ],
)
def test_what_is_not_there_cannot_be_explained(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = CliRunner().invoke(main, ["explain", str(folder), *arguments])
    assert done.exit_code == 2
    assert message in done.output


def test_of_scores_that_are_mostly_left_out_the_smallest_are_not_called_harmful():
    values = np.array([0.3, -0.1, np.nan, np.nan, np.nan])
    assert most_helpful(values, 2).tolist() == [0, 1]
    assert not len(most_harmful(values, 2))
    assert most_harmful(values[:3], 2).tolist() == [1]
