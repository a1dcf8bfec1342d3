"""Weights of questions, learned from rehearsals."""

import torch
from torch import Tensor

from defenses.questions.question import NEUTRAL
from defenses.rehearsal.rehearse import Lesson
from defenses.rehearsal.ridge import Fit, Problem, solve

RIDGE = 2.0


def centred(surprises: Tensor) -> Tensor:
    """Returns what the weights multiply, (k, f): surprises (f, k) less what a clean point has."""
    return surprises.T - NEUTRAL


def learned(lessons: list[Lesson], towards: Tensor, ridge: float = RIDGE) -> Fit:
    """Returns the weights that tell clean points from those taken in, drawn to `towards`, (f,).

    Half of the weight is that of the clean points; each poison of each lesson has an equal share of
    the other half. Without poison, or without clean points, they are `towards`.

    Args:
        lessons: of rehearsals, of the same questions.
        towards: weights without lessons.
        ridge: how strongly they are drawn there.
    """
    families = []
    for number, lesson in enumerate(lessons):
        apart = lesson.family + number * 1000
        families.append(torch.where(lesson.family < 0, -1, apart))
    if not families:
        return Fit(towards, 0.0)
    family = torch.cat(families).cpu()
    surprises = torch.cat([lesson.surprises for lesson in lessons], 1).cpu()
    positive = family >= 0
    if bool(positive.all()) or not bool(positive.any()):
        return Fit(towards, 0.0)
    problem = Problem(
        features=centred(surprises),
        positive=positive,
        share=shares(family),
        towards=towards,
        ridge=ridge,
    )
    return solve(problem)


def shares(family: Tensor) -> Tensor:
    """Returns the weight of each point, (k,) float64: half for the clean, half for the poisons.

    Args:
        family: (k,) int64, -1 of clean points, else which poison.
    """
    _, group, sizes = family.unique(return_inverse=True, return_counts=True)
    poisons = len(sizes) - 1
    each = torch.full_like(family, 0.5 / poisons, dtype=torch.float64)
    each = each.masked_fill(family < 0, 0.5)
    share: Tensor = each / sizes[group]
    return share
