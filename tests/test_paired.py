"""Paired differences of two detectors.

Hand counts, what pairing buys, and which rows are held against which.
"""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluate import scene_config, write_detect, write_scene

from experiments.cli import main
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.intervals import (
    auroc_measured,
    difference_measured,
    mean_interval,
)
from experiments.evaluation.load import load_results
from experiments.evaluation.paired import differences
from experiments.report.render import Asked, render
from poisonbench.errors import ConfigError

PERFECT = [
    9,
    8,
    7,
    6,
    1,
    2,
    3,
    1,
    2,
    3,
    0,
    0,
    0,
    0,
    0,
]  # attacked, matched, random, calibration
WORST = [0, 0, 0, 0, 1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 0]
MIXED = [9, 9, 0, 0, 1, 2, 3, 1, 2, 3, 0, 0, 0, 0, 0]


def pairs(one, other):
    return (
        (np.array(one[:4], float), np.array(one[4:10], float)),
        (np.array(other[:4], float), np.array(other[4:10], float)),
    )


def difference(pair) -> tuple[float, float]:
    """The interval of one scene."""
    return mean_interval([[difference_measured(*pair)]])


def test_a_detector_differs_from_itself_by_nothing_and_from_its_opposite_by_one() -> (
    None
):
    rng = np.random.default_rng(0)
    scores = list(rng.normal(size=15))
    assert difference_measured(*pairs(scores, scores)).value == 0.0
    assert difference_measured(*pairs(PERFECT, WORST)).value == 1.0
    low, high = difference(pairs(scores, PERFECT))
    assert difference(pairs(PERFECT, scores)) == pytest.approx((-high, -low))


def test_pairing_tells_a_small_difference_that_lies_within_both_intervals() -> None:
    rng = np.random.default_rng(1)
    attacked, controls = rng.normal(0.7, 1, 60), rng.normal(0, 1, 120)
    better = (attacked + 0.1, controls)  # the same points, a little better told apart
    low, high = difference((better, (attacked, controls)))
    assert 0 < low < high < 0.06
    own = mean_interval([[auroc_measured((attacked, controls))]])
    assert own[1] - own[0] > 2 * (high - low)
    assert mean_interval([[auroc_measured(better)]])[0] < own[1]


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says() -> None:
    rng, covered, runs = np.random.default_rng(2), 0, 300
    for _ in range(
        runs
    ):  # noise of the detector's own on top of what both see; the true difference is 0
        a, c = rng.normal(1, 1, 40), rng.normal(0, 1, 80)
        scores = [
            (a + rng.normal(0, 0.5, 40), c + rng.normal(0, 0.5, 80)) for _ in range(2)
        ]
        low, high = difference((scores[0], scores[1]))
        covered += low <= 0 <= high
    assert covered / runs > 0.91  # binomial(300, .95): 3 standard deviations below


def two_scenes(folder: Path) -> None:
    for seed in (0, 1):
        for attack in ("patch", "blend"):
            place = write_scene(folder, scene_config({"name": attack}, seed))
            write_detect(place, PERFECT, detector="good", estimator="gas")
            write_detect(
                place, MIXED if seed else PERFECT, detector="good", estimator="tracin"
            )
            write_detect(place, MIXED, detector="rival", estimator=None, uses="")
            write_detect(place, WORST, detector="rival-2", estimator="gas", k=1)
            write_detect(place, PERFECT, detector="rival-2", estimator="gas", k=2)


def of(rows, attack: str, estimator: str | None, detector: str):
    def part(row, key):
        return (row.settings.get(key) or {}).get("name")

    [row] = [
        r
        for r in rows
        if (part(r, "attack"), part(r, "estimator"), part(r, "detector"))
        == (attack, estimator, detector)
    ]
    return row


def test_a_rival_without_influence_is_held_against_every_row_of_its_scene_and_no_other(
    tmp_path: Path,
) -> None:
    two_scenes(tmp_path)
    rows = differences(rows_of(load_results(tmp_path), "detect"), "rival")
    assert of(rows, "patch", "gas", "good").metrics["auroc"].value == pytest.approx(0.5)
    assert of(rows, "patch", "tracin", "good").metrics["auroc"].value == pytest.approx(
        0.25
    )  # seed 0: 0.5, seed 1: itself
    assert of(rows, "mean of 2 attacks", "tracin", "good").metrics[
        "auroc"
    ].value == pytest.approx(0.25)
    assert of(rows, "mean of 2 attacks", "tracin", "good").scenes == 4
    assert not [row for row in rows if row.settings["detector"]["name"] == "rival"]
    interval = of(rows, "patch", "tracin", "good").metrics["auroc"].interval
    assert interval == (-1.0, 1.0), "two seeds, .5 and 0, say next to nothing"


def test_a_rival_with_influence_is_held_against_its_own_estimator(
    tmp_path: Path,
) -> None:
    two_scenes(tmp_path)
    rows = differences(rows_of(load_results(tmp_path), "detect"), "rival-2 k=1")
    assert {row.settings["estimator"]["name"] for row in rows} == {"gas"}
    assert of(rows, "blend", "gas", "good").metrics["auroc_matched"].value == 1.0


def test_an_unknown_or_ambiguous_rival_is_refused_with_the_names_there_are(
    tmp_path: Path,
) -> None:
    two_scenes(tmp_path)
    rows = rows_of(load_results(tmp_path), "detect")
    with pytest.raises(
        ConfigError,
        match="'rivel' names no detector of these results; did you mean 'rival'",
    ):
        differences(rows, "rivel")
    with pytest.raises(ConfigError, match="'rival-2' names several detectors"):
        differences(rows, "rival-2")


def test_an_undefined_side_makes_the_difference_undefined_with_its_reason(
    tmp_path: Path,
) -> None:
    place = write_scene(tmp_path, scene_config({"name": "patch"}))
    write_detect(place, [1.0] * 15, detector="flat", estimator=None, uses="")
    write_detect(place, PERFECT, detector="good", estimator=None, uses="")
    for one, other in (("good", "flat"), ("flat", "good")):
        [row] = differences(rows_of(load_results(tmp_path), "detect"), other)
        assert row.settings["detector"]["name"] == one
        assert row.metrics["auroc"].value is None
        assert row.metrics["auroc"].reason == "constant scores"


def test_evaluate_prints_the_differences_in_every_format(tmp_path: Path) -> None:
    two_scenes(tmp_path)
    result = CliRunner().invoke(main, ["evaluate", str(tmp_path), "--against", "rival"])
    assert result.exit_code == 0, result.output
    assert "DIFFERENCES" in result.output
    assert "+0.500" in result.output
    asked = Asked(against="rival")
    for form in ("markdown", "latex"):
        assert "+0.500" in render(load_results(tmp_path), form, asked)
    assert '"differences"' in render(load_results(tmp_path), "json", asked)
    assert "\ndifferences," in render(load_results(tmp_path), "csv", asked)
    assert "DIFFERENCES" not in render(load_results(tmp_path))
    result = CliRunner().invoke(
        main, ["evaluate", str(tmp_path), "--against", "nobody"]
    )
    assert result.exit_code == 2
