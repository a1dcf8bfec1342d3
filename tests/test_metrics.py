"""Metrics and their intervals from their definitions.

Pairs, orders and resamples are counted one by one.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from test_evaluate import scene_config, write_detect, write_influence, write_scene

from experiments.evaluation import intervals
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.intervals import (
    Wins,
    auroc_interval,
    difference_interval,
    hierarchical_bootstrap,
    wilson,
)
from experiments.evaluation.kinds.filters import FilterScene
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.metrics import Metric, mean_metric, rate, undefined
from experiments.evaluation.poisoning import Poisoning, achieved, budget_told
from experiments.evaluation.ranking import (
    Counts,
    auroc,
    average_precision,
    ranking,
    recall_at_size,
    roc_curve,
    true_positive_rate,
)
from experiments.evaluation.samples import Sample
from poisonbench import log
from poisonbench.log import Record

SCORES = st.lists(st.integers(0, 4), min_size=1, max_size=6)


def counts(positive, negative) -> Counts:
    return Counts.of(np.asarray(positive, float), np.asarray(negative, float))


# ---- rankings


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_won_with_half_a_win_for_a_tie(
    positive, negative
) -> None:
    won = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    expected = won / (len(positive) * len(negative))
    assert auroc(counts(positive, negative)) == pytest.approx(expected, abs=1e-12)
    matrix = Wins.of(np.asarray(positive, float), np.asarray(negative, float)).matrix
    assert matrix.mean() == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_average_precision_is_the_mean_precision_at_the_score_of_each_positive(
    positive, negative
) -> None:
    precisions = []
    for score in positive:
        found = sum(p >= score for p in positive)
        precisions.append(found / (found + sum(n >= score for n in negative)))
    assert average_precision(counts(positive, negative)) == pytest.approx(
        np.mean(precisions)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=1, max_size=3),
)
def test_recall_is_its_mean_over_all_orders_of_the_tied_rows(
    positive, negative
) -> None:
    rows = [(score, 1) for score in positive] + [(score, 0) for score in negative]
    recalls = []
    for order in itertools.permutations(rows):
        ranked = sorted(
            order, key=lambda row: -row[0]
        )  # stable: every order of ties occurs
        top = ranked[: len(positive)]
        recalls.append(sum(is_positive for _, is_positive in top) / len(positive))
    assert recall_at_size(counts(positive, negative)) == pytest.approx(np.mean(recalls))


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES, st.sampled_from([0.0, 0.01, 0.2, 0.25, 0.34, 0.5, 0.99, 1.0]))
def test_the_true_positive_rate_is_the_best_of_all_thresholds_within_the_level(
    positive, negative, level
) -> None:
    best = 0.0
    for threshold in {*positive, *negative}:
        false = np.mean([n >= threshold for n in negative])
        if false <= level:
            best = max(best, float(np.mean([p >= threshold for p in positive])))
    assert true_positive_rate(counts(positive, negative), level) == best


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES)
def test_the_roc_curve_passes_every_threshold_and_its_area_is_the_auroc(
    positive, negative
) -> None:
    found = counts(positive, negative)
    false, true = roc_curve(found)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert np.trapezoid(true, false) == pytest.approx(float(auroc(found)))
    corners = set(zip(false.tolist(), true.tolist(), strict=True))
    for threshold in positive:
        point = (
            float(np.mean([n >= threshold for n in negative])),
            float(np.mean([p >= threshold for p in positive])),
        )
        assert point in corners


def test_levels_are_the_false_positive_rates_that_the_names_tell() -> None:
    negative = np.arange(1000.0)
    positive = np.array(
        [2000, 998.5, 990.5, 950.5, 940.5]
    )  # behind 0, 1, 9, 49 and 59 of them
    found = ranking(Sample(positive, negative, np.zeros(1000, bool)))
    assert found["tpr_at_0.001"].value == pytest.approx(0.4)
    assert found["tpr_at_0.01"].value == pytest.approx(0.6)
    assert found["tpr_at_0.05"].value == pytest.approx(0.8)


# ---- intervals


def test_the_interval_of_auroc_counts_a_tie_as_half_a_win() -> None:
    tied = (np.ones(4), np.ones(6))
    assert auroc_interval([[tied]]) == (0.5, 0.5)
    half = (
        np.array([1.0, 1.0]),
        np.array([1.0, 0.0]),
    )  # .75 if both are drawn, .5 or 1 otherwise
    assert auroc_interval([[half]]) == (0.5, 1.0)


def test_the_interval_holds_the_middle_95_percent_of_the_resamples() -> None:
    # one positive point: its AUROC over resamples is binomial
    won = np.repeat([0.0, 2.0], [150, 250])
    low, high = auroc_interval([[(np.ones(1), won)]], draws=20000)
    expected = binom.ppf([0.025, 0.975], 400, 150 / 400) / 400
    assert (low, high) == pytest.approx(tuple(expected), abs=0.0026)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_resample_has_as_many_points_as_there_are(
    rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    constant = Wins(np.full((rows, columns), 0.25)).resampled(20, rng)
    assert constant.shape == (1, 20)
    assert constant == pytest.approx(0.25)


def test_rows_and_columns_are_drawn_apart_and_uniformly() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.random((5, 7))
    drawn = Wins(matrix).resampled(40000, rng)[0]
    by_hand = [
        matrix[np.ix_(rng.integers(5, size=5), rng.integers(7, size=7))].mean()
        for _ in range(20000)
    ]
    assert drawn.mean() == pytest.approx(matrix.mean(), abs=0.003)
    assert drawn.std() == pytest.approx(np.std(by_hand), rel=0.03)


class Constant:
    """A scene with metrics of no spread."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def resampled(self, size: int, rng: np.random.Generator) -> np.ndarray:
        rng.random(size)
        return np.repeat(np.array(self.values)[:, None], size, axis=1)


def test_groups_are_averaged_alike_whatever_the_number_of_their_scenes() -> None:
    groups = [[Constant(0.0, 4.0)] * 3, [Constant(1.0, 0.0)]]
    assert hierarchical_bootstrap(groups) == [(0.5, 0.5), (2.0, 2.0)]


def test_scenes_are_drawn_with_replacement_as_many_as_there_are() -> None:
    # the mean of two draws of 0 and 1 is 0, .5 and 1 with probabilities 1/4, 1/2 and 1/4
    scenes = [Constant(0.0), Constant(1.0)]
    assert hierarchical_bootstrap([scenes]) == [(0.0, 1.0)]
    many = [Constant(float(i % 2)) for i in range(100)]
    [(low, high)] = hierarchical_bootstrap([many], draws=20000)
    expected = binom.ppf([0.025, 0.975], 100, 0.5) / 100
    assert (low, high) == pytest.approx(tuple(expected), abs=0.011)


def test_the_interval_of_auroc_is_of_all_controls_and_that_of_the_matched_of_those_alone() -> (
    None
):
    rng = np.random.default_rng(0)
    matched = np.arange(20) < 10
    positive, negative = rng.normal(1, 1, 8), rng.normal(0, 1, 20)
    sample = Sample(positive, negative, matched)
    found = Sample.intervals([[sample, sample]])
    assert found == {
        "auroc": auroc_interval([[(positive, negative)] * 2]),
        "auroc_matched": auroc_interval([[(positive, negative[matched])] * 2]),
    }
    assert found["auroc"] != found["auroc_matched"]


def test_a_difference_is_that_of_the_two_in_every_draw() -> None:
    rng = np.random.default_rng(0)
    scene = (rng.normal(size=6), rng.normal(size=8))
    lower = (scene[0] - 10, scene[1])  # never wins
    assert difference_interval([[(scene, scene)]]) == (0.0, 0.0)
    assert difference_interval([[(scene, lower)]]) == auroc_interval([[scene]])


def test_the_bootstrap_of_counts_draws_poison_and_clean_rows_apart() -> None:
    rng = np.random.default_rng(0)
    scene = FilterScene(counts([3, 2, 2], [2, 1, 1, 0]))
    drawn = scene.resampled(20000, rng)
    assert drawn.shape == (3, 20000)
    positive, negative = np.array([3, 2, 2]), np.array([2, 1, 1, 0])
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    by_hand = Wins(wins).resampled(20000, rng)[0]
    assert drawn[0].mean() == pytest.approx(by_hand.mean(), abs=0.003)
    assert drawn[0].std() == pytest.approx(by_hand.std(), rel=0.03)


def test_wilson_counts_fewer_points_the_more_the_seeds_disagree() -> None:
    # standard error of the mean of .4 and .6: .1, so that .5 x .5 / .1^2 = 25 points
    assert wilson([0.4, 0.6], 200) == pytest.approx(wilson([0.5], 25))
    assert wilson([0.4, 0.6], 20) == pytest.approx(wilson([0.5], 20))
    low, high = wilson(
        [0.5], 100
    )  # centre .5, half width z sqrt(n + z^2) / (2 (n + z^2))
    assert (high - low) / 2 == pytest.approx(
        1.959964 / (2 * np.sqrt(100 + 1.959964**2))
    )


# ---- single metrics and their means


def test_a_rate_is_a_share_or_says_why_not() -> None:
    assert rate(np.array([True, False, False, True, True]), "none").value == 0.6
    assert rate(np.array([], bool), "none") == undefined("none")
    assert rate(np.array([True]), "none", "bad") == undefined("bad")


def test_a_mean_leaves_out_what_is_undefined_and_counts_it() -> None:
    parts = [Metric(1.0), undefined("why"), Metric(4.0), undefined("why")]
    assert mean_metric(parts) == Metric(2.5, "over 2 of 4 scenes: why", defined=2)
    assert mean_metric(parts, "attacks", min).value == 1.0
    assert mean_metric([undefined("a"), undefined("b")]) == undefined("a; b")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(float("nan"), "fit_seconds is nan"), ("x", "fit_seconds was not measured")],
    ids=["nan", "text"],
)
def test_what_was_not_measured_is_no_number(tmp_path: Path, value, reason: str) -> None:
    write_influence(
        write_scene(tmp_path, scene_config({"name": "patch"})), fit_seconds=value
    )
    [row] = rows_of(load_results(tmp_path), "influence")
    assert row.metrics["fit_seconds"] == undefined(reason)
    assert row.metrics["score_seconds"].value == 0.5


def test_each_group_of_probe_points_enters_its_metrics_alone(tmp_path: Path) -> None:
    # attacked, attacked but failed, matched, random, calibration
    place = write_scene(
        tmp_path,
        scene_config({"name": "patch"}),
        groups=[0, 0, 1, 2, 3],
        won=[True, False],
    )
    write_detect(place, [2, 9, 1, 3, 8], flags=[1, 0, 0, 1, 0])
    [row] = rows_of(load_results(tmp_path), "detect")
    values = {key: metric.value for key, metric in row.metrics.items()}
    assert (values["auroc"], values["auroc_matched"]) == (0.5, 1.0)
    assert (values["flag_tpr"], values["flag_fpr"], values["flag_fpr_matched"]) == (
        1.0,
        0.5,
        0.0,
    )
    assert (values["threshold"], values["alarm"], values["seconds"]) == (2.0, 0.05, 0.1)


def test_clean_accuracy_and_attack_success_are_counted(tmp_path: Path) -> None:
    write_scene(tmp_path, scene_config({"name": "patch"}), targets=(3, 12))
    [row] = rows_of(load_results(tmp_path), "scene")
    assert (row.metrics["clean_accuracy"].value, row.metrics["asr"].value) == (
        0.9,
        0.25,
    )
    assert row.metrics["asr"].interval == wilson([0.25], 12)
    assert row.metrics["clean_accuracy"].interval == wilson([0.9], 100)
    assert row.counts == {"clean": 100, "targets": 12, "successful": 3}


# ---- what was poisoned


def scene_of(role, origin=None, budget: object = 0.5, **attributes: object) -> Record:
    origin = np.arange(len(role)) if origin is None else np.asarray(origin)
    data = {"poison/role": np.array(role, np.uint8), "poison/origin": origin}
    attack = {"name": "patch", "budget": budget}
    return Record(Path("scene.h5"), "scene", {"attack": attack}, data, attributes)


def test_poison_is_counted_in_the_roles_and_measured_by_the_clean_rows() -> None:
    found = Poisoning.of(scene_of([1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1], [*range(10), -1]))
    assert found == Poisoning(asked=0.5, poison=3, cover=1, rows=11, clean_rows=10)
    assert found.share == 0.3
    for no_budget in (None, True, "half"):
        assert Poisoning.of(scene_of([1, 0], budget=no_budget)).asked is None


def test_deleted_rows_are_clean_rows_and_the_budget_pays_for_them() -> None:
    found = Poisoning.of(scene_of([1, 0, 0], [0, 1, 2], budget=0.75, deleted_rows=1))
    assert found == Poisoning(0.75, 1, 0, 3, clean_rows=4, deleted=1)
    assert found.share == 0.25
    assert found.missed, "3 rows were paid for, 2 were spent"
    met = Poisoning.of(scene_of([1, 0, 0], [0, 1, 2], budget=0.5, deleted_rows=1))
    assert not met.missed
    for strange in (-3, "many", 2.5, True):
        assert Poisoning.of(scene_of([1, 0], deleted_rows=strange)).deleted == 0


@pytest.mark.parametrize(
    ("asked", "poison", "missed"),
    [
        (0.05, 65, False),  # 64.85 rows
        (0.05, 64, False),
        (0.05, 63, True),
        (0.05, 66, True),
        (0.0001, 1, False),  # at least one row
        (None, 65, False),
    ],
)
def test_a_budget_is_missed_by_a_row_or_more(asked, poison: int, missed: bool) -> None:
    assert Poisoning(asked, poison, 0, 1297, 1297).missed == missed


def test_the_text_of_a_budget_is_short_where_it_was_met_and_tells_all_where_it_was_not() -> (
    None
):
    met = Poisoning(0.05, 3, 0, 60, 60)
    missed = Poisoning(0.5, 12, 0, 60, 60)
    other = Poisoning(0.5, 15, 0, 60, 60)
    assert budget_told([met, met]) == "0.05 (3 rows)"
    assert budget_told([missed]) == "0.5 (12 of 60 rows, 0.2)"
    assert budget_told([other, missed]) == "0.5 (12 to 15 of 60 rows, 0.2 to 0.25)"
    assert budget_told([Poisoning(None, 0, 0, 60, 60)]) == "-"
    assert budget_told([Poisoning(None, 6, 0, 60, 60)]) == "- (6 of 60 rows, 0.1)"
    assert achieved([missed]) == "12 of 60 rows, 0.2"


def test_a_mean_over_seeds_keeps_what_each_scene_poisoned(tmp_path: Path) -> None:
    for seed, role in ((0, [1, 0, 0, 0]), (1, [1, 1, 0, 0])):
        write_scene(
            tmp_path, scene_config({"name": "patch", "budget": 0.5}, seed), role=role
        )
    [row] = aggregate(rows_of(load_results(tmp_path), "scene"))
    assert [scene.poison for scene in row.poisoned] == [1, 2]
    assert [scene.missed for scene in row.poisoned] == [True, False]
    assert log.read(next(tmp_path.rglob("scene.h5"))).kind == "scene"


def test_draws_that_are_kept_are_those_that_would_be_drawn_anew():
    drawn = []
    for keep in (True, True, False):
        if not keep:
            intervals._drawn_before.clear()
        rng = np.random.default_rng(7)
        drawn.append(
            [intervals._times_drawn(n, 50, rng) for n in (4, 9, 4)] + [rng.random(3)]
        )
    first, again, anew = drawn
    for one, two, three in zip(first, again, anew, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)
    assert (first[0].sum(1) == 4).all()
    assert not np.array_equal(first[0], first[2])


def test_few_tables_of_draws_are_kept():
    rng = np.random.default_rng(0)
    for _ in range(intervals.KEPT + 20):
        intervals._times_drawn(3, 2, rng)
    assert len(intervals._drawn_before) == intervals.KEPT
