"""Metrics and their intervals from their definitions.

Pairs, orders and resamples are counted one by one.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from test_evaluate import scene_config, write_detect, write_influence, write_scene

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.intervals import auroc_measured, wilson
from experiments.evaluation.kinds.alarms import in_stream
from experiments.evaluation.kinds.filters import FilterScene
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.metrics import (
    Metric,
    mean_metric,
    not_finite,
    rate,
    undefined,
)
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
from experiments.report.table import Cells
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
    scores = (np.asarray(positive, float), np.asarray(negative, float))
    assert auroc_measured(scores).value == pytest.approx(expected, abs=1e-12)


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
    assert trapezoid(true, false) == pytest.approx(float(auroc(found)))
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


def test_the_bootstrap_of_counts_draws_poison_and_clean_rows_apart() -> None:
    rng = np.random.default_rng(0)
    scene = FilterScene(counts([3, 2, 2], [2, 1, 1, 0]))
    drawn = scene.resampled(20000, rng)
    assert drawn.shape == (3, 20000)
    positive, negative = np.array([3, 2, 2]), np.array([2, 1, 1, 0])
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    by_hand = np.array(
        [
            wins[np.ix_(rng.integers(3, size=3), rng.integers(4, size=4))].mean()
            for _ in range(20000)
        ]
    )
    assert drawn[0].mean() == pytest.approx(by_hand.mean(), abs=0.003)
    assert drawn[0].std() == pytest.approx(by_hand.std(), rel=0.03)


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


def test_false_alarms_in_a_stream_weigh_labels_as_the_calibration_points_do(
    tmp_path: Path,
) -> None:
    # two attacked, six matched, two random, five calibration points, one of these of the label
    groups = [0] * 2 + [1] * 6 + [2] * 2 + [3] * 5
    place = write_scene(tmp_path, scene_config({"name": "patch"}), groups=groups)
    scene = log.read(place / "scene.h5", "scene")
    predicted = np.array([7] * 2 + [7] * 6 + [4, 7] + [7, 4, 4, 5, 6])
    wanted = np.array([7] * 2 + [-1] * 13)
    data = {**scene.data, "probe/predicted": predicted, "probe/wanted": wanted}
    scene = replace(scene, data=data)

    flag = np.array([1] * 2 + [1, 1, 0, 0, 0, 0] + [1, 0] + [1] * 5, bool)
    # of seven controls of label 7 two are flagged, of one of the others one
    expected = 1 / 5 * 2 / 7 + 4 / 5 * 1
    assert in_stream(flag, scene).value == pytest.approx(expected)
    nothing = np.zeros(15, bool)
    assert in_stream(nothing, scene).value == 0
    assert in_stream(~nothing, scene).value == pytest.approx(1)


def test_false_alarms_in_a_stream_say_why_there_are_none(tmp_path: Path) -> None:
    groups = {
        "no controls": [0, 0, 3],
        "no calibration points": [0, 1, 2],
        "controls of one kind of label alone": [0, 1, 3],
    }
    for reason, group in groups.items():
        place = write_scene(tmp_path, scene_config({"name": "patch"}), groups=group)
        scene = log.read(place / "scene.h5", "scene")
        predicted = np.array([7, 7, 4])
        wanted = np.array([7, 7, -1])
        data = {**scene.data, "probe/predicted": predicted, "probe/wanted": wanted}
        found = in_stream(np.ones(3, bool), replace(scene, data=data))
        assert found == undefined(reason)
        (place / "scene.h5").unlink()


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
    more = Poisoning(0.01, 65, 0, 6500, 6500)
    less = Poisoning(0.05, 13, 0, 260, 260)
    without = Poisoning(None, 0, 0, 60, 60)
    for grouped in ([more, less], [less, more]):
        assert budget_told(grouped) == "0.01 to 0.05 (13 to 65 rows)"
    assert budget_told([without, less]) == "0.05 (0 to 13 rows)"
    assert budget_told([without]) == "-"
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


def test_counts_of_scores_that_are_not_finite_are_told_as_ranges() -> None:
    bad = "{} of {} scores not finite"
    scenes = [undefined(bad.format(n, of)) for n, of in ((18, 40), (16, 40), (20, 41))]
    mean = mean_metric(scenes)
    assert mean.reason == "16 to 20 of 40 to 41 scores not finite"
    other = mean_metric([undefined(bad.format(9, 40)), undefined("no controls")])
    assert other.reason == "9 of 40 scores not finite; no controls"
    assert not_finite(np.array([1.0, np.nan, -np.inf])) == "2 of 3 scores not finite"
    assert not_finite(np.ones(3)) == ""


def test_notes_that_differ_in_such_counts_alone_are_one_note() -> None:
    cells = Cells()
    first = cells.row(undefined("15 of 40 scores not finite"), undefined("no controls"))
    second = cells.row(
        undefined("18 to 20 of 40 scores not finite"),
        undefined("9 of 20 scores not finite"),
    )
    assert [first, second] == [["- (1)", "- (2)"], ["- (1)", "-"]]
    notes = ("(1) 15 to 20 of 40 scores not finite", "(2) no controls")
    assert cells.notes() == notes
