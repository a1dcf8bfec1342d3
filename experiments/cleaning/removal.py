"""Removal and training again: what the models predict without the rows of each criterion."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.cleaning.material import Material
from poisonbench.data import join
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train_many


@dataclass(frozen=True, eq=False)
class Right:
    """Which points are predicted rightly once rows are removed; nothing by a run that diverged.

    Attributes:
        test: (q, k, r, m0) bool, for q criteria, k shares, r trainings.
        held_out: (q, k, r, h) bool.
        diverged: runs whose training left the finite numbers.
    """

    test: Tensor
    held_out: Tensor
    diverged: int


def kept(scores: Tensor, share: float) -> Tensor:
    """Returns the rows that stay, (n,) bool: all but the round(share n) highest scores.

    Ties go by position; rows whose score is not finite stay, and one row always does.

    Args:
        scores: (n,).
        share: in [0, 1).
    """
    n = len(scores)
    finite = scores.isfinite()
    wanted = round(share * n)
    sound = int(finite.sum())
    count = min(wanted, sound, n - 1)
    ranked = scores.masked_fill(~finite, -torch.inf)
    order = ranked.argsort(descending=True, stable=True)
    keep = torch.ones(n, dtype=torch.bool)
    keep[order[:count]] = False
    return keep


def seeds_of(seed: int, trainings: int) -> list[int]:
    """Returns the seeds of the trainings; the first is that of the run that was judged."""
    others = [derive(seed, "again", number) for number in range(1, trainings)]
    return [seed, *others]


def retrained(
    material: Material,
    scores: Tensor,
    shares: Sequence[float],
    recipe: Recipe,
    seeds: Sequence[int],
) -> Right:
    """Trains without the rows of each criterion and share; equal sets of rows are trained on once.

    Args:
        material: the data.
        scores: (q, n), larger: removed earlier.
        shares: k shares of the rows.
        recipe: of every training.
        seeds: of the r trainings on each set of rows.
    """
    masks = []
    for of_criterion in scores:
        masks += [kept(of_criterion, share) for share in shares]
    stacked = torch.stack(masks)
    each, place = stacked.unique(dim=0, return_inverse=True)
    sets = len(each)
    r = len(seeds)
    points = join([material.test, material.held_out])
    ensemble = train_many(
        material.train,
        each.repeat_interleave(r, 0),
        recipe,
        list(seeds) * sets,
        points=points,
    )
    logits = ensemble.logits()
    sound = logits.isfinite().all(2)
    right = sound & (logits.argmax(2) == points.y)
    of_sets = right.cpu().unflatten(0, (sets, r))
    form = (len(scores), len(shares))
    right = of_sets[place].unflatten(0, form)
    size = len(material.test)
    return Right(
        test=right[..., :size],
        held_out=right[..., size:],
        diverged=int(ensemble.diverged.sum()),
    )
