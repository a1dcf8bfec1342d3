"""Cross-fitting: no trusted point is held against itself, and all of them set the threshold."""

import math
import statistics

import pytest
import torch
from test_rehearsal import ASKED, BIG, clusters
from test_rehearsal import evidence as evidence  # a fixture
from torch import Tensor

import poisonbench as pb
from defenses.baselines.confidence import Confidence
from defenses.detectors.rehearsed import Rehearsed
from defenses.questions.cross_fit import (
    SHRINKAGE,
    among_labels,
    by_label,
    crossed,
)
from defenses.questions.question import answers, surprises
from poisonbench.contracts.calibration import reference_of, unseen_by
from poisonbench.contracts.values import Evidence
from poisonbench.notes import collecting
from poisonbench.seeding import generator

PRIOR_ALONE = Rehearsed(0, cross_fit=True)


def drawn(count: int, name: str) -> Tensor:
    return torch.randn(count, generator=generator(3, name), dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 3, 10, 23])
def test_each_tenth_is_held_against_the_rest_and_all_others_against_all(count: int):
    trusted = torch.zeros(50, dtype=torch.bool)
    places = list(range(1, 1 + 2 * count, 2))
    trusted[places] = True
    weight = 2.0 ** torch.arange(50, dtype=torch.float64)

    def held_against(known: Tensor) -> Tensor:
        return weight[known].sum().expand(50)  # tells which points were known

    found = crossed(held_against, trusted).tolist()
    for place in range(50):
        against = places
        if place in places:
            fold = places[places.index(place) % 10 :: 10]
            against = [other for other in places if other not in fold]
            assert len(against) >= 0.85 * count - 1
        assert found[place] == sum(2.0**other for other in against)


def test_a_score_among_its_label_is_its_definition_in_loops():
    scores = drawn(40, "scores")
    labels = torch.arange(40) % 3
    labels[5] = 7  # of which no point is known
    known = (torch.arange(40) % 4 == 0) & (labels != 7)
    whole = scores[known].tolist()
    middle = statistics.fmean(whole)
    variance = statistics.pvariance(whole)
    found = by_label(scores, labels, known).tolist()
    for score, label, value in zip(
        scores.tolist(), labels.tolist(), found, strict=True
    ):
        own = [scores[i].item() for i in range(40) if known[i] and labels[i] == label]
        count = len(own) + SHRINKAGE
        mean = (sum(own) + SHRINKAGE * middle) / count
        apart = sum((other - mean) ** 2 for other in own) + SHRINKAGE * variance
        assert value == pytest.approx((score - mean) / math.sqrt(apart / count))
    assert found[5] == pytest.approx((float(scores[5]) - middle) / math.sqrt(variance))


def test_units_and_origin_of_the_scores_do_not_matter_and_equal_ones_are_zero():
    scores = drawn(40, "scores")
    labels = torch.arange(40) % 3
    known = torch.arange(40) < 20
    found = by_label(scores, labels, known)
    assert torch.allclose(by_label(3 * scores - 8, labels, known), found)
    assert not bool(by_label(torch.full_like(scores, 5.0), labels, known).any())


def test_a_label_that_scores_higher_on_clean_points_raises_no_more_alarms():
    labels = torch.arange(8000) % 10
    scores = drawn(8000, "many") + 2.0 * (labels == 0)
    known = torch.arange(8000) < 2000
    rates = []
    for said in (scores, among_labels(scores, labels, known)):
        threshold = said[known].quantile(0.95)
        flag = said[~known] > threshold
        rates.append(float(flag[labels[~known] == 0].double().mean()))
    before, after = rates
    assert before > 0.2
    assert after < 0.1
    for few in (torch.arange(8000) < 0, torch.arange(8000) < 1):
        assert torch.equal(among_labels(scores, labels, few), scores)


def test_all_clean_points_are_trusted_and_set_the_threshold_where_it_cross_fits():
    clean = torch.arange(20) % 3 != 0
    half = reference_of(Rehearsed(), clean)
    assert int(half.sum()) == int(clean.sum()) // 2
    assert torch.equal(half | unseen_by(Rehearsed(), clean), clean)
    assert not bool((half & unseen_by(Rehearsed(), clean)).any())
    assert torch.equal(reference_of(PRIOR_ALONE, clean), clean)
    assert torch.equal(unseen_by(PRIOR_ALONE, clean), clean)
    assert not bool(reference_of(Confidence(), clean).any())
    assert torch.equal(unseen_by(Confidence(), clean), clean)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector asks two questions alone."""
    monkeypatch.setattr("defenses.detectors.rehearsed.QUESTIONS", ASKED)


@pytest.mark.usefixtures("asked")
def test_a_trusted_point_has_the_surprises_of_one_that_is_not_trusted(
    evidence: Evidence,
):
    with collecting() as told:
        Rehearsed(0, cross_fit=True)(evidence)
    seen = told.arrays["surprises"]
    said = answers(evidence, ASKED)
    assert evidence.trusted is not None
    places = evidence.trusted.nonzero().squeeze(1)
    for first in range(10):
        own = places[first::10]
        known = evidence.trusted.clone()
        known[own] = False
        assert torch.equal(seen[:, own], surprises(said, known)[:, own])
    others = ~evidence.trusted
    assert torch.equal(seen[:, others], surprises(said, evidence.trusted)[:, others])


@pytest.mark.usefixtures("asked")
def test_a_guard_that_cross_fits_flags_poison_and_judges_a_point_by_itself(
    evidence: Evidence,
):
    detector = Rehearsed(prior="none", cross_fit=True)
    guard = pb.Guard(evidence.trace, clusters(120, 1), detector, "tracin")
    points = clusters(60, 3)
    x = points.x.clone()
    x[0, -1] = BIG
    batch = guard(x)
    one = guard(x[0])
    assert bool(one.flag)
    assert float(one.suspicion) == pytest.approx(float(batch.suspicion[0]))
    # all 120 points set the threshold: a p-value is a multiple of 1 / 121
    parts = 121 * float(one.p_value)
    assert parts == pytest.approx(round(parts))
    assert round(parts) <= 6
    assert float(batch.flag[1:].double().mean()) < 0.2


def test_too_few_points_to_be_halved_are_told(evidence: Evidence):
    few = torch.arange(len(evidence.test)) < 19
    with pytest.raises(ValueError, match="at least 20 trusted"):
        PRIOR_ALONE(Evidence(evidence.trace, evidence.test, evidence.influence, few))
