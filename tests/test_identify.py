"""Filters in a grid and their metrics, against scikit-learn and counts by hand.

Every undefined case with its reason.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from test_evaluate import scene_config, write_scene
from test_run import PATCH, grid, results

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.filters import FilterSample, FilterScene
from experiments.evaluation.load import load_results
from experiments.evaluation.means import aggregate
from experiments.evaluation.ranking import (
    Counts,
    auroc,
    average_precision,
    recall_at_size,
)
from experiments.evaluation.rows import Row
from experiments.plan.paths import Place
from experiments.plan.stages import jobs
from experiments.report.render import render
from experiments.runner.run import Options, run
from poisonbench import log

SCORES = st.lists(st.integers(0, 5), min_size=1, max_size=9)


def metrics(poison, clean) -> dict[str, float]:
    counts = Counts.of(np.asarray(poison, float), np.asarray(clean, float))
    return {
        "auroc": float(auroc(counts)),
        "auprc": float(average_precision(counts)),
        "recall": float(recall_at_size(counts)),
    }


def write_filter(
    place: Path, scores, name: str = "toy", uses: str = "", estimator: str | None = None
) -> Path:
    """A filter's log for the seven training rows of `write_scene`.

    Two poison, four clean, one cover.
    """
    config = {
        "scene": log.read(place / "scene.h5").config,
        "estimator": estimator and {"name": estimator},
    }
    path = place / f"filter-{estimator or 'none'}-{name}.h5"
    data = {"score": np.asarray(scores, float)}
    log.write(
        path,
        "filter",
        config=config | {"filter": {"name": name}},
        data=data,
        attributes={"seconds": 0.1, "uses": uses},
    )
    return path


def one(folder: Path) -> Row:
    [row] = rows_of(load_results(folder), "filter")
    return row


@settings(max_examples=150, deadline=None)
@given(SCORES, SCORES)
def test_counts_give_the_areas_of_scikit_learn_however_many_ties(
    poison: list[int], clean: list[int]
) -> None:
    truth, scores = [1] * len(poison) + [0] * len(clean), poison + clean
    found = metrics(poison, clean)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["auprc"] == pytest.approx(average_precision_score(truth, scores))


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_recall_is_its_mean_over_the_orders_of_tied_rows(
    poison: list[int], clean: list[int]
) -> None:
    rng, size = np.random.default_rng(0), len(poison)
    truth, scores = (
        np.array([1] * size + [0] * len(clean)),
        np.array(poison + clean, float),
    )
    drawn = [
        truth[np.lexsort((rng.random(len(scores)), -scores))[:size]].mean()
        for _ in range(600)
    ]
    assert metrics(poison, clean)["recall"] == pytest.approx(np.mean(drawn), abs=0.12)


def test_the_metrics_of_a_case_counted_by_hand() -> None:
    # high to low: P 9, c 7, P and c tie at 5, c 1: of 2 x 3 pairs 3 + 1.5 are won;
    # of the top two rows one is poison
    found = metrics([9, 5], [7, 5, 1])
    assert found["auroc"] == 4.5 / 6
    assert found["auprc"] == pytest.approx((1 + 2 / 4) / 2)
    assert found["recall"] == 0.5


def test_resampling_counts_is_resampling_rows() -> None:
    """Mean and spread of the AUPRC over draws of the counts.

    They are those over draws of the rows themselves.
    """
    rng = np.random.default_rng(0)
    poison, clean = rng.normal(1, 1, 12).round(1), rng.normal(0, 1, 60).round(1)
    fast = FilterScene(Counts.of(poison, clean)).resampled(3000, rng)[1]
    slow = [
        metrics(rng.choice(poison, 12), rng.choice(clean, 60))["auprc"]
        for _ in range(3000)
    ]
    assert fast.mean() == pytest.approx(np.mean(slow), abs=0.015)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)


def test_intervals_hold_the_mean_over_scenes_and_shrink_with_rows() -> None:
    rng = np.random.default_rng(1)

    def scenes(rows: int) -> list[FilterSample]:
        return [
            FilterSample(
                rng.normal(1, 1, rows),
                rng.normal(0, 1, 5 * rows),
                np.zeros(5 * rows, bool),
            )
            for _ in range(3)
        ]

    wide, narrow = (
        FilterSample.intervals([scenes(10)])["auroc"],
        FilterSample.intervals([scenes(400)])["auroc"],
    )
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert narrow[0] < 0.76 < narrow[1], "two unit normals, one apart: .760"
    assert (
        FilterSample.intervals(
            [[FilterSample(np.array([]), np.ones(3), np.zeros(3, bool))]]
        )
        == {}
    )


@pytest.mark.parametrize("cover", [99, -99], ids=["highest", "lowest"])
def test_cover_rows_enter_no_metric_and_are_counted(tmp_path: Path, cover: int) -> None:
    write_filter(
        write_scene(tmp_path, scene_config({"name": "patch"})),
        [3, 2, 1, 1, 0, 0, cover],
    )
    row = one(tmp_path)
    assert [row.metrics[name].value for name in ("auprc", "auroc", "recall")] == [
        1,
        1,
        1,
    ]
    assert row.counts == {"poison": 2, "clean": 4, "cover": 1, "nonfinite": 0}


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([1.0] * 7, "constant scores"),
        ([np.nan, *range(6)], "1 of 6 scores not finite"),
        ([np.inf, *range(6)], "1 of 6 scores not finite"),
    ],
    ids=["constant", "nan", "inf"],
)
def test_what_cannot_be_ranked_is_undefined_with_its_reason(
    tmp_path: Path, scores: list[float], reason: str
) -> None:
    write_filter(write_scene(tmp_path, scene_config({"name": "patch"})), scores)
    row = one(tmp_path)
    assert {
        (row.metrics[name].value, row.metrics[name].reason)
        for name in ("auprc", "auroc", "recall")
    } == {(None, reason)}


def test_without_poison_there_is_nothing_to_find(tmp_path: Path) -> None:
    place = write_scene(tmp_path, scene_config({"name": "none"}))
    scene = log.read(place / "scene.h5")
    log.write(
        place / "scene.h5",
        "scene",
        config=scene.config,
        data={**scene.data, "poison/role": np.zeros(7, np.uint8)},
    )
    write_filter(place, range(7))
    assert one(tmp_path).metrics["auprc"].reason == "no poison rows"
    assert "no poison rows" in render(load_results(tmp_path))


def test_seeds_are_averaged_and_the_table_marks_ground_truth(tmp_path: Path) -> None:
    for seed in (0, 1):
        place = write_scene(tmp_path, scene_config({"name": "patch"}, seed))
        write_filter(place, [3, 2 * seed, 1, 1, 0, 0, 9])
        write_filter(place, [1, 1, 0, 0, 0, 0, 0], "perfect", uses="oracle")
    rows = {
        row.settings["filter"]["name"]: row
        for row in aggregate(rows_of(load_results(tmp_path), "filter"))
    }
    assert rows["toy"].metrics["recall"].value == 0.75
    low, high = rows["toy"].metrics["auprc"].interval or (1, 0)
    assert low < (rows["toy"].metrics["auprc"].value or 0) < high
    text = render(load_results(tmp_path))
    assert "IDENTIFICATION" in text
    assert "[oracle]" in text


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({"score": np.zeros(6)}, "has 6 scores for 7 training rows"),
        ({"score": np.zeros((7, 1))}, "not vectors"),
        ({"points": np.zeros(7)}, "has no data set 'score'"),
    ],
    ids=["short", "matrix", "other"],
)
def test_a_filter_log_that_does_not_fit_is_listed_as_damaged(
    tmp_path: Path, data: dict, part: str
) -> None:
    path = write_filter(
        write_scene(tmp_path, scene_config({"name": "patch"})), range(7)
    )
    log.write(path, "filter", config=log.read(path).config, data=data)
    [error] = load_results(tmp_path).damaged
    assert part in error.reason


def test_a_log_that_names_no_filter_is_damaged(tmp_path: Path) -> None:
    path = write_filter(
        write_scene(tmp_path, scene_config({"name": "patch"})), range(7)
    )
    record = log.read(path)
    log.write(
        path, "filter", config={"scene": record.config["scene"]}, data=record.data
    )
    [error] = load_results(tmp_path).damaged
    assert "names no filter" in error.reason


def test_filters_run_in_a_grid_and_those_that_misbehave_fail_alone(
    tmp_path: Path,
) -> None:
    names = ("ByLabel", "ByTruth", "ByInfluence", "Raises", "Short")
    filters = [{"name": f"toy_defense:{name}"} for name in names]
    bad = grid(PATCH, filter=filters, detector=[], estimator=[{"name": "gas"}])
    summary = run(bad, Place(tmp_path), Options(workers=0))
    assert len(summary.failed) == 2
    assert "this filter always breaks" in "".join(summary.failed)
    assert "returned scores of shape (3,), not (n,) = (200,)" in "".join(summary.failed)
    rows = {
        row.settings["filter"]["name"]: row
        for row in rows_of(load_results(tmp_path), "filter")
    }
    assert rows["toy_defense:ByTruth"].metrics["recall"].value == 1
    assert rows["toy_defense:ByTruth"].uses == "oracle"
    assert rows["toy_defense:ByInfluence"].settings["estimator"]["name"] == "gas"
    again = results(tmp_path)
    path = next(p for p in tmp_path.rglob("filter-gas-*.h5"))
    path.unlink()
    run(bad, Place(tmp_path), Options(workers=0))
    assert log.same_results(log.read(path), again[str(path.relative_to(tmp_path))])


def test_a_failed_estimator_keeps_its_filters_waiting_and_no_other(
    tmp_path: Path,
) -> None:
    filters = [{"name": "toy_defense:ByInfluence"}, {"name": "toy_defense:ByLabel"}]
    bad = grid(
        PATCH,
        filter=filters,
        detector=[],
        estimator=[{"name": "toy_estimator:Transposed"}],
    )
    summary = run(bad, Place(tmp_path), Options(workers=0))
    assert (summary.done, len(summary.failed)) == (2, 1)
    [job] = jobs(bad, Place(tmp_path), 1)
    assert job.open == ()
