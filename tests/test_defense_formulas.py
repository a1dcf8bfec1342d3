"""Formulas of defenses written out anew in plain loops.

Also what each of them refuses to work on.
"""

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import sklearn.cluster
import torch
from conftest import random_data
from planted import planted, triggered
from torch import Tensor

from defenses import CERTIFIERS, DETECTORS, FILTERS, MITIGATIONS
from defenses.baselines.deep_knn import DeepKNN
from defenses.baselines.strip import Strip
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from defenses.certifiers.votes import Base, row_hash
from defenses.detectors.removal_support import RemovalSupport
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.filters.activation_clustering import ActivationClustering
from defenses.filters.influence_rank import InfluenceRank
from defenses.filters.spectre import Spectre, que, whitened
from defenses.kit.crossing import needed
from defenses.kit.features import features_of
from defenses.kit.scale import mad, median, qn
from defenses.kit.tail_probability import combined, surprise
from defenses.kit.verdict import kept_labels
from defenses.mitigations.filter_retrain import FilterRetrain
from defenses.mitigations.target_driven import TargetDriven
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace


@pytest.fixture(scope="module")
def vectors() -> Evidence:
    return planted()


@pytest.fixture(scope="module")
def images() -> Evidence:
    return triggered()


def close(a: Tensor, b: Tensor | list[float]) -> bool:
    want = torch.as_tensor(b, dtype=a.dtype)
    return torch.allclose(a, want, rtol=1e-9, atol=1e-12, equal_nan=True)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def as_they_are(x: Tensor, y: Tensor, classes: int) -> Trace:
    """A run whose features are the instances themselves."""
    return train(
        Dataset(x, y, classes), Recipe("linear", epochs=1, checkpoints=1), seed=0
    )


# scales, counted by hand


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two() -> None:
    assert float(median(doubles(5, 1, 2, 10))) == 3.5
    assert float(median(doubles(5, 1, 2))) == 2


def test_mad_and_qn_of_a_few_values_by_hand() -> None:
    # deviations from 3 are 2, 1, 0, 1, 97: their median is 1
    assert float(mad(doubles(1, 2, 3, 4, 100))) == pytest.approx(1.4826022185)
    # h = 3, k = 3: of the distances 1 1 1 1 2 2 2 3 3 4 the third
    assert float(qn(doubles(1, 2, 3, 4, 5))) == pytest.approx(2.2191444660)
    # h = 3, k = 3: of 1 2 3 4 5 7 (the values 0 1 3 7 without 6) the third
    assert float(qn(doubles(0, 1, 3, 8))) == pytest.approx(3 * 2.2191444660)


# tail probabilities


def test_surprise_beyond_the_quantile_is_an_exponential_tail_by_hand() -> None:
    """Of 0..99 the 80 % quantile is 79; the 20 above exceed it by 1..20, 10.5 on the mean."""
    clean = torch.arange(100, dtype=torch.float64)
    assert float(surprise(doubles(100), clean)) == pytest.approx(
        math.log(5) + 21 / 10.5
    )
    assert float(surprise(doubles(79.5), clean)) == pytest.approx(
        math.log(5) + 0.5 / 10.5
    )
    assert float(surprise(doubles(78.5), clean)) == pytest.approx(
        -math.log(21.5 / 101), rel=1e-6
    )
    assert float(surprise(doubles(-1), clean)) == pytest.approx(
        -math.log(100.5 / 101), rel=1e-4
    )


def test_three_surprises_together_are_their_sum_less_the_orders_they_could_come_in() -> (
    None
):
    one, two, three = 0.5, 1.5, 2.0
    s = one + two + three
    stacked = torch.stack([doubles(one), doubles(two), doubles(three)])
    assert float(combined(stacked)) == pytest.approx(s - math.log(1 + s + s * s / 2))


# removal


def needed_in_loops(helps: list[float], goal: float) -> float:
    left, count = goal, 0.0
    for value in sorted(helps, reverse=True):
        if value >= left:
            return count + (left / value if value else 0.0)
        left -= value
        count += 1
    return len(helps) * (1 + left / goal)


def test_the_rows_that_sum_to_a_lead_are_counted_with_a_share_of_the_last() -> None:
    helps = torch.rand(20, 7, generator=generator(0, "helps"), dtype=torch.float64)
    lead = torch.linspace(0.1, 6, 20, dtype=torch.float64)
    pairs = zip(helps.tolist(), lead.tolist(), strict=True)
    found = needed(helps, lead)
    assert close(found, [needed_in_loops(row, goal) for row, goal in pairs])
    assert float(found.max()) > 7, "some have too little"


@pytest.mark.parametrize("units", ["loss", "margin"])
def test_removal_support_by_the_sum_is_its_definition_in_loops(
    units, vectors: Evidence
) -> None:
    assert vectors.influence is not None
    scaled = replace(vectors, influence=0.05 * vectors.influence)
    logits = predict(vectors.trace.model(), vectors.test.x).tolist()
    expected = []
    for row, label, values in zip(
        logits,
        vectors.test.y.tolist(),
        (0.05 * vectors.influence).tolist(),
        strict=True,
    ):
        others = [v for c, v in enumerate(row) if c != label]
        margin = row[label] - math.log(sum(math.exp(v) for v in others))
        unit = 1 / (1 + math.exp(margin)) if units == "loss" else 1.0
        helps = [3 * max(v, 0.0) / unit for v in values]
        lead = max(row[label] - max(others), 0.0)
        expected.append(-needed_in_loops(helps, lead) / len(values))
    detector = RemovalSupport("sum", units=units, scale=3.0)
    assert close(detector(scaled), expected)


def test_only_the_first_rows_are_looked_at_where_few_may_leave() -> None:
    """The point's lead outlasts the three rows that may leave: n and up to n more are missing."""
    evidence = planted()
    for order in ("first", "second", "newton", "adaptive"):
        few = RemovalSupport(order, most=1)(evidence)  # type: ignore[arg-type]
        many = RemovalSupport(order, most=40)(evidence)  # type: ignore[arg-type]
        assert bool((few[10:] <= -1).all()), order
        assert float(many[:10].min()) > -0.5, order


def test_the_pool_of_the_adaptive_order_is_four_candidates_for_each_row_that_may_leave() -> (
    None
):
    """With one row to leave, the best of the four most influential of the label goes."""
    evidence = planted()
    assert evidence.influence is not None
    own = evidence.trace.train.y == evidence.test.y[:, None]
    ranked = evidence.influence.masked_fill(~own, -torch.inf)
    fourth = ranked.topk(4).values[:, -1:]
    only = evidence.influence.where(ranked >= fourth, -1.0)
    one = RemovalSupport(most=1)
    assert close(one(replace(evidence, influence=only)), one(evidence))
    third = ranked.topk(3).values[:, -1:]
    fewer = evidence.influence.where(ranked >= third, -1.0)
    assert not close(one(replace(evidence, influence=fewer)), one(evidence))


# neighbours and clusters


@pytest.mark.parametrize("k", [1, 7, 500])
def test_the_deep_knn_detector_is_its_definition_in_loops(
    k: int, vectors: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "defenses.kit.similarity.cosines._BLOCK", 300
    )  # two points a block
    data, test = vectors.trace.train, vectors.test
    rows = features_of(vectors.trace, "penultimate", data)
    points = features_of(vectors.trace, "penultimate", test)
    expected = []
    for point, label in zip(points, test.y.tolist(), strict=True):
        cosine = [float(torch.cosine_similarity(point, row, dim=0)) for row in rows]
        near = sorted(range(len(rows)), key=lambda i, c=cosine: -c[i])[:k]
        expected.append(statistics.mean(int(data.y[i]) != label for i in near))
    assert close(DeepKNN(k)(vectors), expected)


def test_a_row_leans_by_its_distances_to_both_centres_times_the_difference_in_size() -> (
    None
):
    line = [0.0, 0.1, 0.2, 0.3, 0.5, 4.0, 4.4]
    x = torch.zeros(7, 2, dtype=torch.float64)
    x[:, 0] = doubles(*line)
    trace = as_they_are(x, torch.zeros(7, dtype=torch.int64), 2)
    many, few = statistics.mean(line[:5]), statistics.mean(line[5:])
    expected = []
    for value in line:
        a, b = abs(value - many), abs(value - few)
        expected.append((5 - 2) / 7 * (a - b) / max(a, b))
    found = ActivationClustering(1)(Evidence(trace, trace.train))
    assert torch.allclose(found, doubles(*expected), rtol=1e-6)


def test_activation_clustering_keeps_the_first_principal_components_alone() -> None:
    """Along the first axis 8 against 4 rows; along the second, of less variance, 6 against 6."""
    x = torch.zeros(12, 2, dtype=torch.float64)
    x[:4, 0] = 4.0
    x[::2, 1] = 1.0
    trace = as_they_are(x, torch.zeros(12, dtype=torch.int64), 2)
    scores = ActivationClustering(1)(Evidence(trace, trace.train))
    assert scores[:4].tolist() == pytest.approx([1 / 3] * 4)
    assert scores[4:].tolist() == pytest.approx([-1 / 3] * 8)


def test_what_clusters_may_draw_from_global_generators_and_moves_none(
    monkeypatch: pytest.MonkeyPatch,
):
    x = doubles(0.0, 0.1, 0.2, 4.0, 4.4)[:, None]
    trace = as_they_are(x, torch.zeros(5, dtype=torch.int64), 2)
    real = sklearn.cluster.KMeans.fit
    drawn = []

    def fit(self: object, rows: object) -> object:
        drawn.append(random.random())
        return real(self, rows)

    monkeypatch.setattr(sklearn.cluster.KMeans, "fit", fit)
    before = random.getstate()
    ActivationClustering(1)(Evidence(trace, trace.train))
    assert drawn
    assert random.getstate() == before


def test_spectre_scores_the_whitened_first_components_of_each_class(
    vectors: Evidence,
) -> None:
    """Components by numpy; a quarter of the rows caps them, and .65 of the rows are central."""
    trace = vectors.trace
    rows = features_of(trace, "penultimate", trace.train).numpy()
    for wanted in (2, 40):
        found = Spectre(wanted)(vectors)
        for label in range(3):
            own = rows[(trace.train.y == label).numpy()]
            apart = own - own.mean(0)
            values, axes = np.linalg.eigh(apart.T @ apart)
            rank = int((values > values[-1] * 1e-12).sum())
            k = min(wanted, len(own) // 4, rank)
            parts = torch.from_numpy(apart @ axes[:, ::-1][:, :k].copy())
            white = whitened(parts, max(int(0.65 * len(own)), k + 2))
            scores = que(white, 4.0)
            assert torch.allclose(
                found[trace.train.y == label], scores, rtol=1e-5, atol=1e-8
            )


# influence


def test_influence_rank_is_the_mean_of_standardised_influences_on_the_most_suspicious(
    vectors: Evidence,
) -> None:
    assert vectors.influence is not None
    assert vectors.trusted is not None
    scores = TailHeaviness(3)(vectors).tolist()
    trusted = vectors.trusted.tolist()
    usual = max(score for score, known in zip(scores, trusted, strict=True) if known)
    asked = [j for j, known in enumerate(trusted) if not known]
    first = sorted(asked, key=lambda j: -scores[j])[:4]
    assert scores[first[1]] > usual
    first = [j for j in first if scores[j] > usual]
    columns = []
    for j in first:
        values = vectors.influence[j].tolist()
        middle = statistics.median(values)
        width = 1.482602218505602 * statistics.median([abs(v - middle) for v in values])
        label = int(vectors.test.y[j])
        columns.append(
            [
                (v - middle) / width if own == label else 0.0
                for v, own in zip(values, vectors.trace.train.y.tolist(), strict=True)
            ]
        )
    expected = [statistics.mean(column) for column in zip(*columns, strict=True)]
    assert close(InfluenceRank("tail-heaviness", 4)(vectors), expected)


@pytest.mark.parametrize("name", ["top-mass", "effective-count", "gini"])
def test_concentration_within_the_label_does_not_see_the_other_rows(
    name: str, vectors: Evidence
) -> None:
    assert vectors.influence is not None
    other = vectors.trace.train.y != vectors.test.y[:, None]
    moved = replace(vectors, influence=vectors.influence + 5 * other)
    label, everything = DETECTORS[name]("label"), DETECTORS[name]("all")
    assert torch.equal(label(moved), label(vectors))
    assert not torch.equal(everything(moved), everything(vectors))


def test_tail_heaviness_needs_two_trusted_points_with_finite_influence(
    vectors: Evidence,
) -> None:
    assert vectors.influence is not None
    assert vectors.trusted is not None
    influence = vectors.influence.clone()
    known = vectors.trusted.nonzero().squeeze(1)
    influence[known[1:], 0] = torch.nan
    broken = replace(vectors, influence=influence)
    detector = TailHeaviness(standardise="reference")
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(
            ValueError, match="at least 2 trusted points need finite influence, got 1"
        ),
    ):
        detector(broken)


# mitigations, on runs that are made up


def kept_runs(evidence: Evidence) -> tuple[list[Tensor], Callable[[Tensor], Trace]]:
    """Masks of the runs asked for, and a `retrain` that takes the rows out and keeps the model."""
    masks: list[Tensor] = []

    def retrain(keep: Tensor) -> Trace:
        masks.append(keep)
        return replace(evidence.trace, train=evidence.trace.train.take(keep))

    return masks, retrain


def filtered(fraction: float, scores: Tensor, evidence: Evidence) -> Mitigated:
    _, retrain = kept_runs(evidence)
    return FilterRetrain(fraction)(evidence, Means(retrain, scores=scores))


@pytest.mark.parametrize(
    ("fraction", "values", "gone"),
    [
        (0.2, [0, 9, 1, 8, 7, 2, 3, 4, 5, 6], {1, 3}),
        (0.25, [0, 9, 1, 8, 7, 2, 3, 4, 5, 6], {1, 3}),  # rounded to even
        (0.26, [0, 9, 1, 8, 7, 2, 3, 4, 5, 6], {1, 3, 4}),
        (0.01, [0, 9, 1, 8, 7, 2, 3, 4, 5, 6], {1}),
        (0.2, [1, 1, 1, 0, 1, 0, 0, 0, 0, 0], {0, 1}),  # ties by position
        (0.99, [0, 9, 1, 8, 7, 2, 3, 4, 5, 6], {1, 2, 3, 4, 5, 6, 7, 8, 9}),
    ],
)
def test_filter_retrain_removes_the_top_share_and_never_all(
    fraction: float, values: list[float], gone: set[int], vectors: Evidence
) -> None:
    few = replace(vectors, trace=replace(vectors.trace, train=random_data(10, (8,), 3)))
    done = filtered(fraction, doubles(*values), few)
    assert set((~done.keep).nonzero().squeeze(1).tolist()) == gone
    assert done.retrainings == 1
    assert len(done.trace.train) == 10 - len(gone)


def test_filter_retrain_keeps_rows_without_a_score(vectors: Evidence) -> None:
    few = replace(vectors, trace=replace(vectors.trace, train=random_data(4, (8,), 3)))
    with pytest.warns(
        UserWarning, match="2 of 4 rows have a score that is not finite: they stay"
    ):
        done = filtered(0.9, doubles(1, torch.nan, torch.inf, 2), few)
    assert done.keep.tolist() == [False, True, True, False]


def driven_in_loops(
    detector: TargetDriven, evidence: Evidence, label: int
) -> list[set[int]]:
    """Rows gone after each round, for points that keep their label: influence does not change."""
    assert evidence.influence is not None
    flagged = [j for j, y in enumerate(evidence.test.y.tolist()) if y == label]
    own = [i for i, y in enumerate(evidence.trace.train.y.tolist()) if y == label]
    mean = {i: statistics.mean(evidence.influence[flagged, i].tolist()) for i in own}
    left, cutoff, rounds = list(own), detector.cutoff, []
    for _ in range(detector.rounds):
        values = [mean[i] for i in left]
        middle, h = statistics.median(values), len(values) // 2 + 1
        gaps = sorted(abs(a - b) for k, a in enumerate(values) for b in values[:k])
        width = 2.219144465985076 * gaps[h * (h - 1) // 2 - 1]
        heights = {i: (mean[i] - middle) / width for i in left}
        while max(heights.values()) <= cutoff:
            cutoff *= detector.lower
        out = {i for i in left if heights[i] > cutoff}
        if len(own) - len(left) + len(out) > detector.most * len(own):
            break
        left = [i for i in left if i not in out]
        rounds.append(set(own) - set(left))
    return rounds


def driven(
    detector: TargetDriven, evidence: Evidence, label: int
) -> tuple[Mitigated, list[Tensor]]:
    """All points of the label are flagged, and two of another one."""
    masks, retrain = kept_runs(evidence)
    assert evidence.influence is not None
    influence = evidence.influence
    flags = evidence.test.y == label
    flags[(evidence.test.y != label).nonzero()[:2]] = True

    def by_row(run: Trace, points: Dataset) -> Tensor:
        kept = (
            masks[-1]
            if masks
            else torch.ones(len(evidence.trace.train), dtype=torch.bool)
        )
        assert len(run.train) == int(kept.sum())
        rows = [int((evidence.test.x == x).all(1).nonzero()[0]) for x in points.x]
        return influence[rows][:, kept]

    means = Means(retrain, by_row, flags.double(), flags)
    return detector(evidence, means), masks


@pytest.mark.parametrize("lower", [0.9, 0.5])
def test_target_driven_lowers_its_cutoff_and_removes_what_is_above_round_by_round(
    lower: float, vectors: Evidence
) -> None:
    detector = TargetDriven(50.0, lower, rounds=3, most=0.9)
    done, masks = driven(detector, vectors, 2)
    gone = [set((~mask).nonzero().squeeze(1).tolist()) for mask in masks]
    assert gone == driven_in_loops(detector, vectors, 2)
    assert len(gone) == done.retrainings == 3


def test_target_driven_stops_before_it_removes_more_than_its_share_of_the_label(
    vectors: Evidence,
) -> None:
    """The 12 rows of 52 that stand out are 23 %."""
    with pytest.warns(UserWarning, match="more than 0.22 of label 0 stands out"):
        assert driven(TargetDriven(2.0, 1.0, most=0.22), vectors, 0)[0].keep.all()
    done, _ = driven(TargetDriven(2.0, 1.0, rounds=1, most=0.24), vectors, 0)
    assert set((~done.keep).nonzero().squeeze(1).tolist()) == set(range(120, 132))


def test_target_driven_is_content_where_few_enough_points_stay(
    vectors: Evidence,
) -> None:
    """All 15 points stay: more than .9 of them, so one round follows another, up to `rounds`."""
    done, _ = driven(TargetDriven(50.0, 0.9, rounds=2, stay=0.9, most=0.9), vectors, 2)
    assert done.retrainings == 2
    for least, rounds in ((15, 2), (16, 0)):
        done, _ = driven(TargetDriven(50.0, 0.9, 2, least=least, most=0.9), vectors, 2)
        assert done.retrainings == rounds, "15 points are flagged"


def test_target_driven_leaves_points_without_finite_influence_out(
    vectors: Evidence,
) -> None:
    assert vectors.influence is not None
    influence = vectors.influence.clone()
    influence[0, 5] = torch.nan
    broken = replace(vectors, influence=influence)
    rest = torch.arange(len(influence)) > 0
    without = replace(vectors, test=vectors.test.take(rest), influence=influence[rest])
    detector = TargetDriven(2.0, 1.0, rounds=1, most=0.9)
    with pytest.warns(
        UserWarning, match="1 of 10 points have an influence that is not finite"
    ):
        done, _ = driven(detector, broken, 0)
    assert torch.equal(done.keep, driven(detector, without, 0)[0].keep)
    nothing = replace(vectors, influence=torch.full_like(influence, torch.nan))
    with pytest.warns(UserWarning, match="10 of 10 points"):
        assert driven(detector, nothing, 0)[0].keep.all()


@pytest.mark.parametrize(
    ("share", "kept"),
    [(0.0, [1, 2]), (0.5, [1, 2]), (0.75, [2]), (0.9, [2]), (1.0, [])],
)
def test_kept_labels_are_those_that_more_than_a_share_of_their_points_have(
    share: float, kept: list[int], vectors: Evidence
) -> None:
    """Three of the four points with label 1 are still given it, both with 2, none with 0."""
    predicted = predict(vectors.trace.model(), vectors.test.x).argmax(1)
    ones = vectors.test.x[predicted == 1][:4]
    twos = vectors.test.x[predicted == 2][:4]
    x = torch.cat([ones, twos])
    y = torch.tensor([1, 1, 1, 0, 2, 2, 0, 1])
    assert kept_labels(vectors.trace, Dataset(x, y, 3), share).tolist() == kept


# certifiers, on models that are made up


def first_seen(train: Dataset, masks: Tensor, test: Dataset) -> Tensor:
    """Each model votes for the smallest label that it sees, class 0 without rows."""
    votes = []
    for mask in masks:
        seen = train.y[mask].tolist()
        votes.append(torch.full((len(test),), min(seen, default=0)))
    return torch.stack(votes)


def test_masks_of_partition_aggregation_split_the_rows_by_their_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks: list[Tensor] = []

    def vote(self: Base, train: Dataset, given: Tensor, test: Dataset) -> Tensor:
        masks.append(given)
        return first_seen(train, given, test)

    monkeypatch.setattr(Base, "vote", vote)
    data, test = random_data(50, (3,), 4), random_data(2, (3,), 4, seed=1)
    numbers = sorted(row_hash(data.x).tolist())
    assert numbers[0] >= 0
    assert numbers[-1] < 2**62
    DeepPartitionAggregation(7)(data, test, Recipe("linear"), 0)
    for part, mask in enumerate(masks.pop()):
        assert mask.tolist() == [number % 7 == part for number in numbers]
    certifier = FiniteAggregation(3, 2)
    certifier(data, test, Recipe("linear"), 0)
    spread = certifier.spread().tolist()
    for model, mask in enumerate(masks.pop()):
        assert mask.tolist() == [model in spread[number % 6] for number in numbers]


# what is refused

JUDGES = {**DETECTORS, **FILTERS}


@pytest.mark.parametrize("name", JUDGES)
def test_a_trace_in_the_place_of_the_evidence_is_refused_in_one_line(
    name: str, vectors: Evidence
) -> None:
    for wrong in (vectors.trace, vectors.trace.model(), None):
        with pytest.raises(
            TypeError, match=r"evidence must be an Evidence\(trace, test\)"
        ) as told:
            JUDGES[name]()(wrong)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", JUDGES)
def test_a_training_set_without_rows_is_refused(name: str, vectors: Evidence) -> None:
    empty = vectors.trace.train.take(torch.zeros(0, dtype=torch.int64))
    nothing = replace(
        vectors,
        trace=replace(vectors.trace, train=empty),
        influence=torch.zeros(len(vectors.test), 0),
        role=torch.zeros(0, dtype=torch.uint8),
    )
    with pytest.raises(ValueError, match="needs at least 1 training row, got 0"):
        JUDGES[name]()(nothing)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_probe_without_points_is_refused(name: str, vectors: Evidence) -> None:
    assert vectors.influence is not None
    assert vectors.trusted is not None
    nothing = replace(
        vectors,
        test=vectors.test.take(torch.zeros(0, dtype=torch.int64)),
        influence=vectors.influence[:0],
        trusted=vectors.trusted[:0],
    )
    with pytest.raises(ValueError, match="needs at least 1 test point, got 0"):
        DETECTORS[name]()(nothing)


@pytest.mark.parametrize("name", MITIGATIONS)
def test_a_mitigation_refuses_what_is_no_evidence(name: str, vectors: Evidence) -> None:
    means = Means(lambda keep: pytest.fail(f"trained on {keep.sum()} rows"))
    with pytest.raises(TypeError, match="evidence must be an Evidence"):
        MITIGATIONS[name]()(vectors.trace, means)


@pytest.mark.parametrize("name", CERTIFIERS)
def test_a_certifier_refuses_data_sets_without_rows_and_what_is_none(name: str) -> None:
    data = random_data(5, (2,), 3)
    nothing = data.take(torch.zeros(0, dtype=torch.int64))
    certifier = CERTIFIERS[name]()
    recipe = Recipe("linear")
    with pytest.raises(ValueError, match="train must have at least 1 row, got 0"):
        certifier(nothing, data, recipe, 0)
    with pytest.raises(ValueError, match="test must have at least 1 row, got 0"):
        certifier(data, nothing, recipe, 0)
    with pytest.raises(TypeError, match=r"test must be a Dataset\(x, y, classes\)"):
        certifier(data, data.x, recipe, 0)


def test_strip_needs_two_trusted_points_as_none_is_laid_over_itself(
    images: Evidence,
) -> None:
    one = torch.zeros(len(images.test), dtype=torch.bool)
    one[20] = True
    with pytest.raises(ValueError, match="at least 2 trusted probe points, got 1"):
        Strip()(replace(images, trusted=one))
