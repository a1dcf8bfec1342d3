"""A rehearsal: generic poison is planted, a victim trained, and the questions asked of it.

The defender knows of each point of the rehearsal whether it rests on poison: that teaches which
questions tell.

Cost: a training, and the questions about all trusted points and 20 more for each poison.
"""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses.kit.evidence import trusted_points
from defenses.questions.question import Answers, Question, answers
from defenses.rehearsal.poison import Planted, plant
from defenses.rehearsal.stage import Stage, held_against_others, set_up
from defenses.rehearsal.table import POISONS
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training.start import bytes_of
from poisonbench.training.trace import Trace

SUCCESS = 0.5  # share of its points that must be taken in for a poison to teach


@dataclass(frozen=True, eq=False)
class Lesson:
    """Points of which it is known whether they rest on poison.

    Attributes:
        surprises: (f, k) float64, what the questions say of them.
        family: (k,) int64, -1 of clean points, else which poison.
    """

    surprises: Tensor
    family: Tensor


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """What a rehearsal taught.

    Attributes:
        lesson: its clean points, and the points taken in by the poisons that teach.
        success: of every poison that was planted, by family: the share of points taken in.
        seconds: what the questions took, by name.
    """

    lesson: Lesson
    success: dict[str, float]
    seconds: dict[str, float]

    @property
    def taught(self) -> int:
        """How many poisons succeeded well enough to teach."""
        return sum(share >= SUCCESS for share in self.success.values())


def rehearse(
    evidence: Evidence,
    means: Means,
    questions: tuple[Question, ...],
    leave_out: tuple[str, ...],
    seed: int,
) -> Rehearsal:
    """Plants, trains, and asks.

    Args:
        evidence: with the trusted points.
        means: to train again.
        questions: that are asked.
        leave_out: families of generic poison that are not planted.
        seed: of all draws.
    """
    planted = planted_for(evidence, leave_out, seed)
    trace = means.train(planted.train)
    stage = set_up(trace, in_order(evidence), planted.plants, seed)
    said = answers(evidence_of(trace, stage, means), questions)
    return taught_by(said, stage, tuple(its.family for its in planted.plants))


def taught_by(said: Answers, stage: Stage, families: tuple[str, ...]) -> Rehearsal:
    """Returns what the answers about a stage teach.

    Args:
        said: of all questions about its points.
        stage: the points.
        families: of the poisons, in the order of the stage.
    """
    success = {}
    teaches = stage.clean
    for place, family in enumerate(families):
        success[family] = stage.success(place)
        if success[family] >= SUCCESS:
            own = stage.family == place
            teaches = teaches | (own & stage.taken & stage.counts)
    seen = held_against_others(said, stage)
    return Rehearsal(
        lesson=Lesson(seen[:, teaches], stage.family[teaches]),
        success=success,
        seconds=dict(zip(said.names, said.seconds, strict=True)),
    )


def planted_for(evidence: Evidence, leave_out: tuple[str, ...], seed: int) -> Planted:
    """Returns the training set of a rehearsal, with what is planted in it.

    Poison of one source takes the class that most trusted points are predicted as.
    """
    train = evidence.trace.train
    labels = evidence.test.y[trusted_points(evidence)]
    source = int(labels.bincount(minlength=train.classes).argmax())
    poisons = POISONS[str(train.kind)]
    return plant(train, poisons, leave_out, source, seed)


def in_order(evidence: Evidence) -> Dataset:
    """Returns the trusted points in an order that their values alone tell."""
    points = evidence.test.take(trusted_points(evidence))
    digests = [hashlib.sha256(bytes_of(x)).digest() for x in points.x]
    order = sorted(range(len(points)), key=digests.__getitem__)
    return points.take(torch.tensor(order))


def evidence_of(trace: Trace, stage: Stage, means: Means) -> Evidence:
    """Returns what the questions may see of the rehearsal's victim."""

    def again(keep: Tensor) -> Trace:
        return means.train(trace.train.take(keep))

    influence = None
    if means.influence is not None:
        influence = means.influence(trace, stage.points)
    return Evidence(
        trace=trace,
        test=stage.points,
        influence=influence,
        trusted=stage.clean,
        means=replace(means, retrain=again),
    )


def seed_of(evidence: Evidence, seed: int, number: int) -> int:
    """Returns the seed of a rehearsal: of the run, of the detector, and which one it is."""
    return derive(evidence.trace.seed, "rehearsal", seed, number)
