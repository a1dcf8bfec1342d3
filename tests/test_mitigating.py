"""What remove-and-return does beyond its trials: further labels, and poison with true labels."""

from dataclasses import replace

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from defenses.kit.mitigating.cause import Asked, remove_cause
from defenses.kit.mitigating.likeness import likeness, standardised_features
from defenses.kit.mitigating.spread import spread
from defenses.kit.verdict import (
    Runs,
    attacked_beyond_doubt,
    false_alarms,
    kept_label,
    known_points,
    points_judged,
)
from defenses.mitigations.remove_and_return import RemoveAndReturn
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.seeding import generator
from tests.triggered import ATTACKED, ROWS, backdoor, means

ALL_TO_ALL = ((0, 1, 8), (1, 2, 8), (2, 3, 8), (3, 0, 8))


def test_likeness_is_the_linear_discriminant_with_half_of_the_variance_shared() -> None:
    """Held to scikit-learn's, whose shrunk covariance is half of ours."""
    g = generator(0, "likeness")
    x = torch.randn(40, 6, generator=g, dtype=torch.float64)
    one = torch.arange(40) < 12
    other = torch.arange(40) >= 28
    x[one, 2] += 3
    known = one | other
    peer = LinearDiscriminantAnalysis("lsqr", shrinkage=0.5, priors=[0.5, 0.5])
    peer.fit(x[known].numpy(), one[known].numpy())
    theirs = torch.as_tensor(peer.decision_function(x.numpy()))
    assert torch.allclose(2 * likeness(x, one, other), theirs, atol=1e-9)


def test_features_are_in_units_of_their_deviation_and_constant_ones_are_zero() -> None:
    seen = torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    unit = (8 / 3) ** 0.5
    expected = torch.tensor([[-2 / unit, 0.0], [0.0, 0.0], [2 / unit, 0.0]]).double()
    assert torch.allclose(standardised_features(seen), expected)


def all_to_all(flagged: tuple[int, ...]) -> tuple[Evidence, Tensor, Tensor]:
    """Evidence, which rows are poison, and flags on so many points of each trigger."""
    evidence, bad, attacked = backdoor(*ALL_TO_ALL, poison=12)
    wanted = torch.tensor([1, 2, 3, 0]).repeat_interleave(ATTACKED)
    fooled = evidence.test.y[attacked] == wanted
    assert fooled.double().mean() > 0.8, "the attack works at first"
    flags = torch.zeros_like(attacked)
    start = len(attacked) - len(wanted)
    for place, count in enumerate(flagged):
        own = fooled[place * ATTACKED : (place + 1) * ATTACKED].nonzero().squeeze(1)
        flags[start + place * ATTACKED + own[:count]] = True
    return evidence, bad, flags


def test_poison_of_every_label_goes_where_some_have_no_flagged_points() -> None:
    """Two labels are put on trial; of a third one point is flagged, of the fourth none."""
    evidence, bad, flags = all_to_all((6, 6, 1, 0))
    done = RemoveAndReturn()(evidence, means(evidence, flags))
    assert int((done.keep & bad).sum()) <= 0.1 * int(bad.sum())
    assert int((~done.keep & ~bad).sum()) <= 0.02 * 4 * ROWS


@pytest.mark.parametrize(
    ("convicted", "flagged"), [((1,), (6, 0, 1, 0)), ((1, 2), (6, 6, 0, 0))], ids=str
)
def test_further_labels_are_left_alone_without_two_convicted_or_a_point_not_explained(
    convicted: tuple[int, ...], flagged: tuple[int, ...]
) -> None:
    evidence, bad, flags = all_to_all(flagged)
    runs = Runs(evidence.trace, means(evidence, flags))
    of_these = torch.isin(evidence.trace.train.y, torch.tensor(convicted))
    first = runs.without(~(bad & of_these), 0)
    done, new = spread(runs, first, evidence.test.take(flags), 0.5)
    assert not new
    assert done is first, "no run is made"


def test_what_does_not_make_the_other_points_leave_is_not_removed() -> None:
    """The points not explained are clean: they keep their label, and the old run stands."""
    evidence, bad, flags = all_to_all((6, 6, 0, 0))
    runs = Runs(evidence.trace, means(evidence, flags))
    y = evidence.trace.train.y
    first = runs.without(~(bad & ((y == 1) | (y == 2))), 0)
    clean = (torch.arange(len(flags)) < 4 * 10) & (evidence.test.y == 3)
    points = evidence.test.take(flags | clean)
    done, new = spread(runs, first, points, 0.5)
    assert not new
    assert done.trace is first.trace
    assert torch.equal(done.keep, first.keep)
    assert done.retrainings == first.retrainings + 3


def clean_label() -> tuple[Evidence, Means, Tensor, Tensor]:
    """Poison with true labels: evidence, means with the clean points known, poison, flags."""
    evidence, bad, attacked = backdoor((0, 0, 8), poison=30)
    x = evidence.test.x.clone()
    shift = 2 * (torch.eye(10)[1] - torch.eye(10)[0])
    x[attacked] += shift  # from the first cluster to the second
    x[attacked, 8] += 4  # a trigger stronger than in training
    labels = predict(evidence.trace.model(), x).argmax(1)
    assert (labels[attacked] == 0).all(), "the attack works at first"
    seen = replace(evidence, test=Dataset(x, labels, 4))
    told = replace(means(seen, attacked), known=~attacked)
    return seen, told, bad, attacked


def test_poison_with_true_labels_goes_where_clean_points_are_known() -> None:
    evidence, told, bad, attacked = clean_label()
    done = RemoveAndReturn()(evidence, told)
    points = evidence.test.take(attacked)
    assert kept_label(done.trace, points).double().mean() <= 0.1
    assert kept_label(done.trace, evidence.test.take(~attacked)).double().mean() > 0.9
    assert int((~done.keep & bad).sum()) > 0.5 * int(bad.sum())
    assert int((~done.keep & ~bad).sum()) <= 0.1 * ROWS
    assert done.keep[evidence.trace.train.y != 0].all()


def test_nothing_goes_where_clean_points_leave_with_the_flagged_ones() -> None:
    """The flagged points are clean, too: no rows cause them that the others do not need."""
    evidence, told, _, _ = clean_label()
    clean = evidence.test.take((evidence.test.y == 0) & (torch.arange(50) < 40))
    runs = Runs(evidence.trace, told)
    asked = Asked(runs, points=clean, known=clean, part=0.5, stay=0.1, false=0.0)
    done = remove_cause(asked, runs.first, rounds=4)
    assert done.keep.all()
    assert done.trace is evidence.trace
    assert done.retrainings > 0


def test_rows_that_the_model_without_them_agrees_on_come_back_in_one_run() -> None:
    """A round takes 36 of the label's 72 rows: 12 are poison with wrong labels, 24 are clean."""
    evidence, bad, attacked = backdoor((1, 0, 8), poison=12)
    runs = Runs(evidence.trace, means(evidence, attacked))
    points = evidence.test.take(attacked & (evidence.test.y == 0))
    clean = evidence.test.take((evidence.test.y == 0) & ~attacked)
    asked = Asked(runs, points, clean, part=0.5, stay=0.1, false=0.0)
    done = remove_cause(asked, runs.first, rounds=4)
    assert torch.equal(~done.keep, bad)
    assert done.retrainings == 2


@pytest.mark.parametrize(("known", "runs_made"), [(4, 0), (5, 1)])
def test_rows_are_not_touched_where_few_clean_points_are_known(
    known: int, runs_made: int
) -> None:
    evidence, told, _, attacked = clean_label()
    points = evidence.test.take(attacked)
    clean = evidence.test.take((evidence.test.y == 0) & ~attacked)
    runs = Runs(evidence.trace, told)
    few = clean.take(torch.arange(known))
    asked = Asked(runs, points=points, known=few, part=0.5, stay=0.1, false=0.0)
    done = remove_cause(asked, runs.first, rounds=4)
    assert (done.retrainings > 0) == bool(runs_made)


@pytest.mark.parametrize(("false", "left"), [(2.9, False), (3.0, True)])
def test_beside_the_share_so_many_points_may_stay_as_are_false_alarms(
    false: float, left: bool
) -> None:
    """Of 20 points 5 keep the label: 2 are the share of one in ten, the others false alarms."""
    evidence, told, _, _ = clean_label()
    labels = predict(evidence.trace.model(), evidence.test.x).argmax(1)
    points = evidence.test.relabel(labels).take(torch.arange(20))
    moved = (points.y + 1) % 4
    points = points.relabel(torch.where(torch.arange(20) < 5, points.y, moved))
    runs = Runs(evidence.trace, told)
    asked = Asked(runs, points, points, part=0.5, stay=0.1, false=false)
    assert asked.left(runs.first) == left


@pytest.mark.parametrize(("alarm", "count"), [(0.05, 2.0), (0.2, 8.0)])
def test_false_alarms_are_the_alarm_of_the_points_judged(
    alarm: float, count: float
) -> None:
    y = torch.cat([torch.zeros(60), torch.ones(40)]).long()
    judged = Dataset(torch.zeros(100, 2), y, 2)
    assert false_alarms(judged, torch.tensor(1), alarm) == pytest.approx(count)


def test_points_known_to_be_clean_are_not_among_those_judged() -> None:
    evidence, told, _, attacked = clean_label()
    assert torch.equal(points_judged(evidence, told).x, evidence.test.x[attacked])
    assert torch.equal(known_points(evidence, told).x, evidence.test.x[~attacked])
    untold = replace(told, known=None)
    assert len(points_judged(evidence, untold)) == len(evidence.test)
    assert not len(known_points(evidence, untold))


@pytest.mark.parametrize(
    ("alarm", "flagged", "doubtless"),
    [(0.05, 12, False), (0.05, 14, True), (0.2, 30, False), (0.2, 34, True)],
)
def test_an_attack_is_beyond_doubt_where_false_alarms_seldom_flag_as_many(
    alarm: float, flagged: int, doubtless: bool
) -> None:
    """Of 100 points 5 are flagged without cause on the mean: 12 once in 230, 14 once in 2,000."""
    y = torch.arange(100) % 4
    judged = Dataset(torch.zeros(100, 2), y, 4)
    found = judged.take(torch.arange(100) < flagged)
    assert attacked_beyond_doubt(found, judged, alarm) == doubtless
