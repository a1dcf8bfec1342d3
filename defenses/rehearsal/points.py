"""Generic poison against single points: rows that lie at one trusted point, with another label.

As feature collisions do (Shafahi et al., NeurIPS 2018, arXiv 1804.00792), and flipped neighbours.
A victim whose features stay as they were learns little of a trigger, and this.

Cost: that of a rehearsal with two points in place of the triggers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.questions.question import Question, answers
from defenses.rehearsal.rehearse import Rehearsal, evidence_of, in_order, taught_by
from defenses.rehearsal.stage import Stage, set_up
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset, join
from poisonbench.models import predict
from poisonbench.models.head import body_of
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

COLLISION = "collision"
NEIGHBOURS = "neighbours"
ROWS = 10  # at each point
SHARE = 0.85  # of the point in a row that collides with it


@dataclass(frozen=True, eq=False)
class Aim:
    """A point that is attacked.

    Attributes:
        family: of the poison.
        point: its number among the trusted points.
        wanted: the label that it is to get.
        rows: (k,) int64, the poison rows.
    """

    family: str
    point: int
    wanted: int
    rows: Tensor


def aim(trace: Trace, trusted: Dataset, seed: int) -> tuple[Dataset, tuple[Aim, ...]]:
    """Returns the training set with poison against two trusted points, and what was planted.

    Each is to get the label that the model of `trace` finds the next most likely. "collision":
    rows of that label are mixed with the point. "neighbours": the rows of other labels that lie
    next to it in the features of that model get the label.

    Args:
        trace: whose training set it is; of instances that can be mixed.
        trusted: at least 2 points with the labels that its model predicts.
        seed: of all draws.
    """
    train = trace.train
    drawn = torch.randperm(len(trusted), generator=generator(seed, "points"))
    first, second = drawn[:2].tolist()
    runner_up = _runner_up(trace, trusted)
    wanted = int(runner_up[first])
    own = (train.y == wanted).cpu().nonzero().squeeze(1)
    order = torch.randperm(len(own), generator=generator(seed, COLLISION))
    hit = Aim(COLLISION, first, wanted, own[order[:ROWS]].to(train.y.device))
    x = train.x.clone()
    x[hit.rows] = (1 - SHARE) * train.x[hit.rows] + SHARE * trusted.x[first]

    wanted = int(runner_up[second])
    eligible = train.y != wanted
    eligible[hit.rows] = False
    distance = _distance(trace, trusted.x[second : second + 1])
    nearest = distance.where(eligible, torch.inf).argsort(stable=True)
    beside = Aim(NEIGHBOURS, second, wanted, nearest[: min(ROWS, int(eligible.sum()))])
    y = train.y.clone()
    y[beside.rows] = wanted
    return train.rows(x, y), (hit, beside)


def _runner_up(trace: Trace, trusted: Dataset) -> Tensor:
    """Returns the label that is next most likely at each point, (r,)."""
    logits = predict(trace.model(), trusted.x)
    others = logits.scatter(1, trusted.y[:, None], -torch.inf)
    return others.argmax(1)


def _distance(trace: Trace, x: Tensor) -> Tensor:
    """Returns how far the training rows lie from an instance (1, *shape) in features, (n,)."""
    body = body_of(trace.model())
    away = predict(body, trace.train.x) - predict(body, x)
    distance: Tensor = away.flatten(1).norm(dim=1)
    return distance


def rehearse_points(
    evidence: Evidence,
    means: Means,
    questions: tuple[Question, ...],
    seed: int,
) -> Rehearsal:
    """Plants, trains, and asks, as `rehearse` does, with single points in place of triggers.

    Args:
        evidence: with the trusted points, at least 4.
        means: to train again.
        questions: that are asked.
        seed: of all draws.
    """
    trusted = in_order(evidence)
    poisoned, aims = aim(evidence.trace, trusted, seed)
    trace = means.train(poisoned)
    stage = points_stage(trace, trusted, aims)
    said = answers(evidence_of(trace, stage, means), questions)
    return taught_by(said, stage, tuple(each.family for each in aims))


def points_stage(trace: Trace, trusted: Dataset, aims: tuple[Aim, ...]) -> Stage:
    """Returns the trusted points that are not attacked, then those that are.

    Args:
        trace: of the rehearsal's victim.
        trusted: r points with the labels that the victim under attack predicts.
        aims: what was planted.
    """
    place = trusted.y.device
    attacked = torch.tensor([each.point for each in aims], device=place)
    wanted = torch.tensor([each.wanted for each in aims], device=place)
    others = torch.ones(len(trusted), dtype=torch.bool, device=place)
    others[attacked] = False
    clean = set_up(trace, trusted.take(others), (), seed=0)
    points = trusted.take(attacked)
    after = predict(trace.model(), points.x).argmax(1)
    number = torch.arange(len(aims), device=place)
    return Stage(
        points=join([clean.points, points.relabel(after)]),
        origin=torch.cat([clean.origin, number]),
        family=torch.cat([clean.family, number]),
        taken=torch.cat([clean.taken, after == wanted]),
        counts=torch.cat([clean.counts, torch.ones_like(after, dtype=torch.bool)]),
    )
