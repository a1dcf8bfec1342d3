"""Detectors that hold a point's proponents against those of others, in loops and by example."""

import statistics
from dataclasses import replace

import pytest
import torch
from planted import ATTACKED, planted
from torch import Tensor

from defenses.detectors.closeness import Closeness
from defenses.detectors.exclusive_proponents import ExclusiveProponents
from defenses.detectors.shared_proponents import SharedProponents
from defenses.kit.proponents import overlaps
from poisonbench.contracts.values import Evidence
from poisonbench.seeding import generator


@pytest.fixture(scope="module")
def vectors() -> Evidence:
    """The planted example, with trusted points among all that are clean."""
    evidence = planted()
    trusted = torch.arange(len(evidence.test)) % 3 == 0
    trusted[:ATTACKED] = False
    return replace(evidence, trusted=trusted)


def influence_of(evidence: Evidence) -> Tensor:
    assert evidence.influence is not None
    return evidence.influence


def trusted_of(evidence: Evidence) -> Tensor:
    assert evidence.trusted is not None
    return evidence.trusted


def held_against(evidence: Evidence, j: int) -> list[int]:
    """The trusted points of the label of point j, or all; never itself."""
    others = [int(i) for i in trusted_of(evidence).nonzero() if int(i) != j]
    labels = evidence.test.y
    own = [i for i in others if labels[i] == labels[j]]
    return own or others


def rows_of(evidence: Evidence, j: int) -> Tensor:
    """The training rows that carry the label of point j, (r,) int64."""
    return (evidence.trace.train.y == evidence.test.y[j]).nonzero().squeeze(1)


def proponents(evidence: Evidence, i: int, rows: Tensor, k: int) -> set[int]:
    """The k of some rows that help point i most."""
    values = influence_of(evidence)[i]
    return set(sorted(rows.tolist(), key=lambda row: -float(values[row]))[:k])


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("summary", ["largest", "mean"])
def test_closeness_is_its_definition_in_loops(
    summary: str, centred: bool, vectors: Evidence
) -> None:
    def row(i: int, rows: Tensor) -> Tensor:
        values = influence_of(vectors)[i][rows]
        return values - values.mean() if centred else values

    scores = Closeness(summary, centred)(vectors)  # type: ignore[arg-type]
    for j in range(len(vectors.test)):
        rows = rows_of(vectors, j)
        cosines = [
            float(torch.cosine_similarity(row(i, rows), row(j, rows), dim=0))
            for i in held_against(vectors, j)
        ]
        of = {"largest": max, "mean": statistics.mean}[summary]
        assert float(scores[j]) == pytest.approx(-of(cosines), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("detector", [Closeness(), Closeness("mean", True)], ids=repr)
@pytest.mark.parametrize("factor", [1e-30, 1e-22, 1e22, 1e30])
def test_closeness_of_very_small_and_very_large_influence_is_that_of_any_other(
    detector: Closeness, factor: float, vectors: Evidence
) -> None:
    """Influence on a well-learnt point is so small that its squares are 0 in float32."""
    influence = influence_of(vectors).float()
    usual = detector(replace(vectors, influence=influence))
    scaled = detector(replace(vectors, influence=factor * influence))
    torch.testing.assert_close(scaled, usual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("k", "share"), [(5, 0.0), (1, 0.1), (10, 0.1), (999, 0.0)])
def test_exclusive_proponents_are_their_definition_in_loops(
    k: int, share: float, vectors: Evidence
) -> None:
    scores = ExclusiveProponents(k, share)(vectors)
    for j in range(len(vectors.test)):
        rows = rows_of(vectors, j)
        count = min(len(rows), max(k, round(share * len(rows))))
        own = proponents(vectors, j, rows, count)
        common = [
            len(own & proponents(vectors, i, rows, count)) / count
            for i in held_against(vectors, j)
        ]
        assert float(scores[j]) == pytest.approx(1 - statistics.mean(common))


def test_shared_proponents_are_their_definition_in_loops(vectors: Evidence) -> None:
    scores = SharedProponents(7)(vectors)
    trusted = trusted_of(vectors).tolist()
    labels = vectors.test.y.tolist()
    m = len(labels)
    for j in range(m):
        rows = rows_of(vectors, j)
        own = proponents(vectors, j, rows, 7)
        common: dict[bool, list[float]] = {True: [], False: []}
        for i in range(m):
            alike = 0.0
            if labels[i] == labels[j]:
                alike = len(own & proponents(vectors, i, rows, 7)) / 7
            if i != j:
                common[trusted[i]].append(alike)
        expected = statistics.mean(common[False]) - statistics.mean(common[True])
        assert float(scores[j]) == pytest.approx(expected)


def test_shared_proponents_of_the_closest_ones_are_their_definition_in_loops(
    vectors: Evidence,
) -> None:
    scores = SharedProponents(7, closest=2)(vectors)
    trusted = trusted_of(vectors).tolist()
    labels = vectors.test.y.tolist()
    m = len(labels)
    for j in range(m):
        rows = rows_of(vectors, j)
        own = proponents(vectors, j, rows, 7)
        common: dict[bool, list[float]] = {True: [], False: []}
        for i in range(m):
            if labels[i] == labels[j]:
                alike = len(own & proponents(vectors, i, rows, 7)) / 7
                common[trusted[i]].append(alike if i != j else 0.0)
        second = []
        for group in (False, True):
            ordered = sorted(common[group], reverse=True)
            second.append(ordered[1] if len(ordered) > 1 else 0.0)
        assert float(scores[j]) == pytest.approx(second[0] - second[1])


def test_overlaps_of_a_label_without_rows_are_nothing() -> None:
    nothing = torch.zeros(3, 0)
    assert torch.equal(overlaps(nothing, nothing, 5, 0.1), torch.zeros(3, 3))


@pytest.mark.parametrize(
    "detector",
    [Closeness(), Closeness("mean", True), ExclusiveProponents(3, 0.0)],
    ids=repr,
)
def test_points_that_rest_on_other_rows_than_the_trusted_ones_stand_out(
    detector: Closeness | ExclusiveProponents,
) -> None:
    evidence = planted()
    train = evidence.trace.train
    rows = (train.y == 0).nonzero().squeeze(1)
    test = evidence.test.relabel(torch.zeros_like(evidence.test.y))
    g = generator(0, "rows")
    influence = torch.rand(influence_of(evidence).shape, generator=g).double()
    influence[:, rows[:6]] += 5
    influence[:ATTACKED, rows[:6]] -= 5
    influence[:ATTACKED, rows[-6:]] += 5
    scores = detector(replace(evidence, test=test, influence=influence))
    assert scores[:ATTACKED].min() > scores[ATTACKED:].max()


def test_trusted_points_whose_influence_is_not_finite_are_asked_nothing(
    vectors: Evidence,
) -> None:
    bad = int(trusted_of(vectors).nonzero()[1])
    influence = influence_of(vectors).clone()
    influence[bad, 0] = torch.nan
    fewer = trusted_of(vectors).clone()
    fewer[bad] = False
    rest = torch.arange(len(fewer)) != bad
    for detector in (Closeness(), ExclusiveProponents()):
        with pytest.warns(UserWarning, match="not finite"):
            scores = detector(replace(vectors, influence=influence))
        without = detector(replace(vectors, trusted=fewer))
        assert torch.allclose(scores[rest], without[rest], equal_nan=True)


@pytest.mark.parametrize(
    "detector", [Closeness(), ExclusiveProponents(), SharedProponents()], ids=repr
)
def test_without_trusted_points_nothing_can_be_asked(
    detector: Closeness, vectors: Evidence
) -> None:
    nobody = torch.zeros_like(trusted_of(vectors))
    with pytest.raises(ValueError, match="at least 1 trusted probe points, got 0"):
        detector(replace(vectors, trusted=nobody))


def test_the_only_trusted_point_has_nothing_to_be_held_against(
    vectors: Evidence,
) -> None:
    one = torch.zeros_like(trusted_of(vectors))
    one[-1] = True
    for detector in (Closeness(), Closeness("mean"), ExclusiveProponents()):
        scores = detector(replace(vectors, trusted=one))
        assert scores[-1].isnan()
        assert scores[:-1].isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Closeness("median"), "summary must be one of largest, mean"),
        (lambda: ExclusiveProponents(0), "k must be at least 1, got 0"),
        (lambda: ExclusiveProponents(share=2.0), "share must lie in"),
        (lambda: SharedProponents(0), "k must be at least 1, got 0"),
        (lambda: SharedProponents(share=-0.1), "share must lie in"),
    ],
)
def test_a_field_out_of_range_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
