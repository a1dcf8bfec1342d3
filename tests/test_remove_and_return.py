"""Remove and return on planted backdoors.

Poison goes, whatever its share; clean rows come back; false alarms cost nothing.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from defenses.kit.verdict import beyond_chance
from defenses.mitigations.remove_and_return import RemoveAndReturn
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import train
from poisonbench.training.trace import Trace
from tests.triggered import ATTACKED, RECIPE, backdoor, means

ONE, TWO = ((1, 0, 8),), ((1, 0, 8), (2, 3, 9))


@pytest.mark.parametrize("poison", [4, 12, 40])
@pytest.mark.parametrize("triggers", [ONE, TWO], ids=["one target", "two targets"])
def test_poison_of_any_share_goes_with_the_same_defaults_and_no_clean_row_does(
    triggers: tuple[tuple[int, int, int], ...], poison: int
) -> None:
    evidence, bad, attacked = backdoor(*triggers, poison=poison)
    wanted = torch.tensor([label for _, label, _ in triggers]).repeat_interleave(
        ATTACKED
    )
    fooled = evidence.test.y[attacked] == wanted
    assert fooled.double().mean() > 0.5, "the attack works at first"
    flags = attacked & torch.isin(evidence.test.y, wanted)
    done = RemoveAndReturn()(evidence, means(evidence, flags))
    assert int((~done.keep & ~bad).sum()) == 0
    assert int((done.keep & bad).sum()) <= 0.1 * int(bad.sum())
    assert (
        predict(done.trace.model(), evidence.test.x[attacked]).argmax(1) == wanted
    ).double().mean() < 0.1
    assert len(done.trace.train) == int(done.keep.sum())


def test_the_same_rows_go_in_whatever_order_they_stand() -> None:
    evidence, bad, attacked = backdoor(*ONE, poison=12)
    order = torch.randperm(len(bad), generator=generator(3, "order"))
    other = replace(
        evidence, trace=train(evidence.trace.train.take(order), RECIPE, seed=1)
    )
    gone = ~RemoveAndReturn()(evidence, means(evidence, attacked)).keep
    assert torch.equal(gone, bad)
    assert torch.equal(
        ~RemoveAndReturn()(other, means(other, attacked)).keep, gone[order]
    )


def test_a_false_alarm_costs_a_run_and_no_row() -> None:
    """Clean points keep their label without the rows that helped them most: nothing to undo."""
    evidence, _, attacked = backdoor(*ONE, poison=12)
    done = RemoveAndReturn()(evidence, means(evidence, ~attacked))
    assert done.keep.all()
    assert done.trace is evidence.trace
    assert done.retrainings == 1


@pytest.mark.parametrize("flagged", [0, 2])
def test_too_few_flags_change_nothing_and_cost_nothing(flagged: int) -> None:
    evidence, _, attacked = backdoor(*ONE, poison=12)
    done = RemoveAndReturn(least=3)(
        evidence, means(evidence, attacked & (attacked.cumsum(0) <= flagged))
    )
    assert done.keep.all()
    assert done.trace is evidence.trace
    assert done.retrainings == 0


def test_clean_rows_that_influence_names_come_back_and_planted_poison_does_not() -> (
    None
):
    """The trial takes half of label 0, 36 rows of 72.

    The 12 poison rows and 24 clean ones, which are judged.
    """
    evidence, bad, attacked = backdoor(*ONE, poison=12)
    masks: list[Tensor] = []
    real = means(evidence, attacked)

    def retrain(keep: Tensor) -> Trace:
        masks.append(keep)
        return real.retrain(keep)

    done = RemoveAndReturn()(evidence, replace(real, retrain=retrain))
    assert int((~masks[0] & ~bad).sum()) == 24
    assert any(torch.equal(mask, done.keep) for mask in masks)
    assert torch.equal(~done.keep, bad)


def test_rows_whose_return_brings_the_points_back_are_not_returned() -> None:
    """Poison of two triggers, points of the second, and a run that knows the first alone.

    It gives the poison its label, and not the points; with the poison back they have it again.
    """
    evidence, bad, attacked = backdoor(*ONE, poison=12)
    first, second = (torch.eye(10, dtype=torch.float64)[k] for k in (8, 9))
    rows = evidence.trace.train
    x = rows.x + 4 * bad[:, None] * second
    victim = train(rows.rows(x, rows.y), RECIPE, seed=1)
    points = evidence.test.x[attacked] - 4 * first + 8 * second
    labels = predict(victim.model(), points).argmax(1)
    assert (labels == 0).all(), "the attack works at first"
    seen = Evidence(victim, Dataset(points, labels, 4))
    real = means(seen, attacked[attacked])
    runs: list[Trace] = []

    def retrain(keep: Tensor) -> Trace:
        run = real.retrain(keep)
        if len(runs) == 1:
            part = victim.train.take(keep)
            other = x[bad] - 4 * second
            known = torch.cat([part.y, rows.y[bad]])
            run = train(part.rows(torch.cat([part.x, other]), known), RECIPE, seed=1)
            agreed = predict(run.model(), x[bad]).argmax(1) == 0
            assert agreed.all(), "it gives the poison its label"
            assert (predict(run.model(), points).argmax(1) != 0).all(), "not the points"
        runs.append(run)
        return run

    done = RemoveAndReturn(rounds=1)(seen, replace(real, retrain=retrain))
    assert not done.keep[bad].any()
    assert done.keep[~bad].all()
    assert (predict(done.trace.model(), points).argmax(1) != 0).all()
    assert done.retrainings == len(runs) == 2, "with all rows it is the first run"


@pytest.mark.parametrize("alarm", [0.05, 0.2])
@pytest.mark.parametrize(("told", "flagged"), [(20, 3), (20, 9), (20, 10), (60, 13)])
def test_a_label_is_sure_where_false_alarms_seldom_flag_as_many(
    told: int, flagged: int, alarm: float
) -> None:
    """The tail of the binomial written out, for one of four labels."""
    y = torch.cat([torch.full((told,), 2), torch.arange(4).repeat(25)])
    test = Dataset(torch.zeros(len(y), 2), y, 4)
    count = told + 25
    tail = sum(
        math.comb(count, k) * alarm**k * (1 - alarm) ** (count - k)
        for k in range(flagged, count + 1)
    )
    found = beyond_chance(test.take(torch.arange(flagged)), test, alarm)
    assert found.tolist() == ([2] if 4 * tail < 1e-3 else [])


def test_a_trial_takes_the_upper_part_of_each_suspicious_label_and_no_other_row() -> (
    None
):
    """Written out: the mean influence on a label's flagged points.

    Sorted, the first part of its rows.
    """
    evidence, _, attacked = backdoor(*TWO, poison=12)
    real = means(evidence, attacked)
    masks: list[Tensor] = []
    assert real.influence is not None
    influence = real.influence(evidence.trace, evidence.test)
    y, want = evidence.trace.train.y.tolist(), set()
    for label in (0, 3):
        points = [
            j
            for j, p in enumerate(evidence.test.y.tolist())
            if p == label and attacked[j]
        ]
        own = [i for i, c in enumerate(y) if c == label]
        mean = {
            i: sum(float(influence[j, i]) for j in points) / len(points) for i in own
        }
        want |= set(sorted(own, key=lambda i: -mean[i])[: len(own) // 4])

    def retrain(keep: Tensor) -> Trace:
        masks.append(keep)
        return real.retrain(keep)

    done = RemoveAndReturn(part=0.25, rounds=1)(
        evidence, replace(real, retrain=retrain)
    )
    assert set((~masks[0]).nonzero().squeeze(1).tolist()) == want
    assert set((~done.keep).nonzero().squeeze(1).tolist()) <= want, (
        "one round removes no more than it tried"
    )


def test_a_label_with_few_flagged_points_beside_another_is_left_alone() -> None:
    evidence, _, attacked = backdoor(*ONE, poison=12)
    false = ~attacked & (evidence.test.y == 2)
    masks: list[Tensor] = []
    real = means(evidence, attacked | (false & (false.cumsum(0) <= 3)))

    def retrain(keep: Tensor) -> Trace:
        masks.append(keep)
        return real.retrain(keep)

    RemoveAndReturn()(evidence, replace(real, retrain=retrain))
    assert (evidence.trace.train.y[~masks[0]] == 0).all()


def test_a_label_whose_points_come_back_without_the_rows_removed_gets_all_of_them_again() -> (
    None
):
    evidence, _, attacked = backdoor(*ONE, poison=12)
    real, victim = means(evidence, attacked), evidence.trace
    runs: list[Trace] = []

    def retrain(keep: Tensor) -> Trace:
        """A trial as it should be, and then one that failed.

        As if the rows removed had no part in it: a victim as fooled as the first.
        """
        runs.append(
            replace(victim, train=victim.train.take(keep))
            if runs
            else real.retrain(keep)
        )
        return runs[-1]

    done = RemoveAndReturn(rounds=1)(evidence, replace(real, retrain=retrain))
    assert done.keep.all()
    assert done.trace is evidence.trace
    assert done.retrainings == 2


def test_poison_with_true_labels_comes_back() -> None:
    """What the docstring says of clean-label attacks.

    The points leave on trial, but the model agrees with the rows' labels.
    """
    evidence, bad, attacked = backdoor((0, 0, 8), poison=30)
    x = evidence.test.x[attacked] + 2 * (
        torch.eye(10)[1] - torch.eye(10)[0]
    )  # from the first cluster to the second
    x[:, 8] += 4  # a trigger stronger than in training
    points = Dataset(x, predict(evidence.trace.model(), x).argmax(1), 4)
    assert (points.y == 0).all(), "the attack works at first"
    seen = replace(evidence, test=points)
    done = RemoveAndReturn()(seen, means(seen, attacked[attacked]))
    assert done.keep[bad].all()


def test_influence_that_is_not_finite_is_left_out_with_a_warning() -> None:
    evidence, bad, attacked = backdoor(*ONE, poison=12)
    real = means(evidence, attacked)
    assert real.influence is not None

    def broken(rows: int) -> Means:
        def influence(trace: Trace, points: Dataset) -> Tensor:
            assert real.influence is not None
            scores = real.influence(trace, points).clone()
            scores[:rows] = torch.nan
            return scores

        return replace(real, influence=influence)

    with pytest.warns(
        UserWarning, match="1 of 10 points have an influence that is not finite"
    ):
        assert torch.equal(~RemoveAndReturn()(evidence, broken(1)).keep, bad)
    with pytest.warns(UserWarning, match="10 of 10 points"):
        assert RemoveAndReturn()(evidence, broken(10)).keep.all()


def test_without_flags_or_influence_it_says_what_it_needs() -> None:
    evidence, _, attacked = backdoor(*ONE, poison=4)
    for bare in (
        replace(means(evidence, attacked), flags=None),
        replace(means(evidence, attacked), influence=None),
    ):
        with pytest.raises(
            ValueError,
            match=r"works on a detector's flags \(m,\) and an estimator's influence",
        ):
            RemoveAndReturn()(evidence, bare)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("part", 1.0, r"part must lie in \(0, 1\), got 1.0"),
        ("stay", 0.5, r"stay must lie in \[0, 0.5\), got 0.5"),
        ("least", 0, "least must be at least 1, got 0"),
        ("rounds", 0, "rounds must be at least 1, got 0"),
    ],
)
def test_a_bad_value_is_named(field: str, value: float, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        RemoveAndReturn(**{field: value})
