"""How right estimators are: scores from their definition, and games whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_data
from scipy.stats import spearmanr, t

from estimators.kit.retraining import random_subsets
from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.kinds.truths import (
    Points,
    corrected,
    correlations,
    reliability_of,
    rightness,
)
from experiments.evaluation.load import load_results
from experiments.evaluation.metrics import Metric
from experiments.evaluation.rows import Row
from experiments.plan.measures.truth import LeftOut, Subsets
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Method
from experiments.runner.run import Options, run
from experiments.scene.kinds.truth import noise_of, seeds_of
from poisonbench import log
from poisonbench.log import Record, names
from poisonbench.training import Recipe, train

GAME = {
    "dataset": {"name": "digits", "classes": [3, 8], "train": 60, "test": 60},
    "recipe": {"model": "linear", "train": "additive:sums"},
    "probe": {"controls": 12, "calibration": 4},
    "attack": [{"name": "none"}],
    "estimator": [
        {"name": "additive:Sums", "factor": [1.0, -2.0]},
        {"name": "toy_estimator:Flat"},
    ],
    "truth": [
        {"name": "datamodeling", "subsets": 20, "repeats": 2, "points": 8},
        {
            "name": "left-out",
            "size": [1, 9],
            "choice": ["random", "class", "proponents"],
            "groups": 10,
            "repeats": 2,
            "points": 8,
        },
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("game")
    summary = run(parse(GAME), Place(place), Options(workers=0))
    assert summary.failed == []
    return place


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[Row]:
    return rows_of(load_results(folder), "truth")


def of(rows: list[Row], name: str, **settings: float) -> list[Row]:
    found = []
    for row in rows:
        estimator = row.settings["estimator"]
        if estimator["name"] == name and settings.items() <= estimator.items():
            found.append(row)
    return found


def test_the_true_effects_of_an_additive_game_score_one_and_their_opposites_minus_one(
    rows: list[Row],
):
    for factor, want in ((1.0, 1.0), (-2.0, -1.0)):
        found = of(rows, "additive:Sums", factor=factor)
        assert len(found) == 7
        for row in found:
            for metric in ("score", "single", "corrected"):
                assert row.metrics[metric].value == pytest.approx(want, abs=1e-6)
            assert row.metrics["reliability"].value == pytest.approx(1.0)
            assert row.counts["points"] == 8


def test_predictions_that_are_all_alike_have_no_score_and_the_reason_is_told(
    rows: list[Row],
):
    found = of(rows, "toy_estimator:Flat")
    assert len(found) == 7
    for row in found:
        assert row.metrics["score"].value is None
        assert row.metrics["score"].reason == "constant predictions"
        assert row.metrics["corrected"].value is None


def test_the_models_are_trained_once_and_shared_by_the_estimators(folder: Path):
    ground = sorted(folder.rglob("ground-*.h5"))
    assert len(ground) == 7
    by_truth: dict[str, list[Record]] = {}
    for path in folder.rglob("truth-*.h5"):
        record = log.read(path, "truth")
        by_truth.setdefault(str(record.config["truth"]), []).append(record)
    assert len(by_truth) == 7
    for records in by_truth.values():
        assert len(records) == 3
        for name in (names.EFFECT_MEAN, names.EFFECT_FIRST_RUN):
            first = records[0].data[name]
            assert all(np.array_equal(first, other.data[name]) for other in records)
        assert len({record.attributes["truth_seconds"] for record in records}) == 1


def test_a_damaged_file_of_models_is_made_again(folder: Path):
    path = next(folder.rglob("ground-datamodeling-*.h5"))
    before = log.read(path, "ground").data[names.EFFECT_RUNS]
    path.write_bytes(path.read_bytes()[:100])
    for truth in folder.rglob("truth-*sums*-datamodeling-*.h5"):
        truth.unlink()
    assert run(parse(GAME), Place(folder), Options(workers=0)).done == 2
    assert np.array_equal(log.read(path, "ground").data[names.EFFECT_RUNS], before)


def test_the_score_is_the_rank_correlation_of_each_point_over_the_sets():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(12, 3))
    effects = rng.normal(size=(12, 3))
    effects[3] = effects[2]  # ties
    got = correlations(predicted, effects)
    for point in range(3):
        want = spearmanr(predicted[:, point], effects[:, point]).statistic
        assert got[point] == pytest.approx(want)
    np.testing.assert_allclose(correlations(effects, effects), 1.0)
    predicted[0, 1] = np.nan
    predicted[:, 2] = 4.0
    assert np.isnan(correlations(predicted, effects)).tolist() == [False, True, True]


def test_reliability_is_the_share_of_the_variance_that_is_no_noise():
    """Means 0 and 4 of two sets have the variance 8; with a squared error of 2, 3/4 is left."""
    mean = np.array([[0.0], [4.0]])
    assert reliability_of(mean, np.full((2, 1), 2**0.5)).value == pytest.approx(0.75)
    assert reliability_of(mean, np.zeros((2, 1))).value == 1.0
    assert reliability_of(mean, np.full((2, 1), 9.0)).value == 0.0
    assert reliability_of(mean, np.full((2, 1), np.nan)).reason == (
        "one training per set"
    )
    got = corrected(Metric(0.3), Metric(0.25))
    assert got.value == pytest.approx(0.6)
    assert corrected(Metric(0.3), Metric(0.0)).value is None


def test_noisy_trainings_have_the_reliability_of_their_noise():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(1, 200, 50))
    runs = signal + 2.0 * rng.normal(size=(4, 200, 50))
    error = runs.std(0, ddof=1) / 2
    # variance 1 of the signal, 4 / 4 of the noise of a mean
    got = reliability_of(runs.mean(0), error).value
    assert got == pytest.approx(0.5, abs=0.02)
    score = correlations(signal[0], runs.mean(0)).mean()
    assert corrected(Metric(float(score)), Metric(got)).value == pytest.approx(
        1.0, abs=0.05
    )


def test_noise_that_all_sets_share_is_none():
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(5, 1, 3, generator=g).double()
    signal = torch.randn(1, 40, 3, generator=g).double()
    assert float(noise_of(signal + shared).max()) < 1e-12
    own = torch.randn(5, 4000, 3, generator=g).double()
    squares = noise_of(shared + own).square()
    assert float(squares.mean()) == pytest.approx(1 / 5, abs=0.01)
    assert bool(noise_of(own[:1]).isnan().all())


def test_sets_of_a_training_that_diverged_are_left_out(folder: Path):
    path = next(folder.rglob("truth-*sums*-datamodeling-*.h5"))
    record = log.read(path, "truth")
    scene = log.read(path.parent / "scene.h5", "scene")
    record.data[names.EFFECT_MEAN][8:16] = np.nan  # one set of 8 points
    row = rightness(record, scene)
    assert row.counts == {"points": 8, "sets": 19}
    assert abs(row.metrics["score"].value) == pytest.approx(1.0, abs=1e-6)


def test_random_subsets_have_their_size_and_differ():
    masks = random_subsets(6, 11, 5, torch.Generator().manual_seed(0))
    assert masks.shape == (6, 11)
    assert (masks.sum(1) == 5).all()
    assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_groups_have_their_size_and_their_choice():
    run_of_rows = train(random_data(40, (6,), 3), Recipe("mlp", epochs=1), 0)
    points = random_data(5, (6,), 3, seed=1)
    labels = run_of_rows.train.y
    for size in (1, 4):
        for choice in ("random", "class", "proponents"):
            method = LeftOut(size=size, choice=choice, groups=7)
            left = ~method.kept(run_of_rows, points, 0)
            assert left.shape == (7, 40)
            assert (left.sum(1) == size).all()
            for number, group in enumerate(left):
                if choice == "class":
                    assert (labels[group] == number % 3).all()
                if choice == "proponents":
                    assert (labels[group] == points.y[number % 5]).all()
    with pytest.raises(ValueError, match="size must be below 40"):
        LeftOut(size=40).kept(run_of_rows, points, 0)


def test_a_copy_of_a_point_is_its_nearest_proponent():
    run_of_rows = train(random_data(40, (6,), 3), Recipe("mlp", epochs=1), 0)
    points = run_of_rows.train.take(torch.tensor([7, 11, 30]))
    method = LeftOut(size=1, choice="proponents", groups=3)
    left = ~method.kept(run_of_rows, points, 0)
    assert left.nonzero()[:, 1].tolist() == [7, 11, 30]


def test_paired_runs_of_a_repeat_share_a_seed_and_others_do_not():
    paired = seeds_of(Method("left-out", LeftOut(groups=3, repeats=2)), 0, 4)
    assert [len(set(paired[:4])), len(set(paired[4:])), len(set(paired))] == [1, 1, 2]
    own = seeds_of(Method("datamodeling", Subsets(subsets=3, repeats=2)), 0, 3)
    assert len(set(own)) == 6


def test_the_interval_over_scenes_is_students_of_their_means():
    """Points that are all alike leave the spread between the scenes alone."""
    means = np.array([0.1, 0.2, 0.45])
    scenes = [Points.of(np.full((3, 30), mean)) for mean in means]
    low, high = Points.intervals([scenes])["score"]
    half = t.ppf(0.975, 2) * means.std(ddof=1) / 3**0.5
    assert (low, high) == pytest.approx((means.mean() - half, means.mean() + half))


def test_the_interval_of_one_scene_is_that_of_its_points():
    rng = np.random.default_rng(0)
    scores = rng.normal(0.3, 0.1, size=400)
    low, high = Points.intervals([[Points.of(np.stack([scores] * 3))]])["score"]
    assert (low + high) / 2 == pytest.approx(scores.mean())
    assert high - low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)


def test_a_scene_without_a_corrected_score_is_no_part_of_its_interval():
    known = np.full((3, 30), 0.4)
    unknown = known.copy()
    unknown[2] = np.nan
    both = Points.intervals([[Points.of(known), Points.of(unknown)]])
    assert both["corrected"] == pytest.approx((0.4, 0.4))
    assert set(Points.intervals([[Points.of(unknown)]])) == {"score", "single"}
