"""Cross-fitting: trusted points are judged as if they were not among the trusted ones.

Each tenth of them is held against the other nine, so that all of them set a threshold, as in
cross-conformal prediction (Vovk, Annals of Mathematics and Artificial Intelligence 2015). And a
score is told among those of its label: where a label is poisoned, clean points that are predicted
as it score higher, too, as their influence is spread over the poison rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

FOLDS = 10  # held against halves, trusted points scored higher than clean ones held against all
SHRINKAGE = (
    10.0  # points with the mean and the variance of all labels, added to each label
)
ROUNDING = 1e-9  # of the largest score: what differs less has no spread


def crossed(held_against: Callable[[Tensor], Tensor], trusted: Tensor) -> Tensor:
    """Returns values of m points, (..., m), those of trusted ones as if they were not.

    Every tenth trusted point is of the same fold; a fold is held against the other folds, each
    point of fewer than ten by itself against the others.

    Args:
        held_against: known points, (m,) bool, to the values of all points held against them.
        trusted: (m,) bool, in random order, at least 2.
    """
    found = held_against(trusted)
    fold = (trusted.cumsum(0) - 1) % FOLDS
    for number in range(min(FOLDS, int(trusted.sum()))):
        own = trusted & (fold == number)
        found = torch.where(own, held_against(trusted & ~own), found)
    return found


def among_labels(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Returns scores (m,) by label, crossed; as they are with fewer than two known points."""
    if int(known.sum()) < 2:
        return scores
    return crossed(lambda some: by_label(scores, labels, some), known)


def by_label(scores: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """Returns (score - mean) / deviation, both of the known points with its label, (m,).

    Each label has ten further points with the mean and the variance of all known ones, so that a
    label with few points is judged as all are.

    Args:
        scores: (m,) finite.
        labels: (m,) int64.
        known: (m,) bool, at least 1.
    """
    whole = scores[known]
    middle = whole.mean()
    variance = whole.var(correction=0)
    least = ROUNDING * whole.abs().amax().clamp(min=1)
    found = torch.empty_like(scores)
    for label in labels.unique():
        points = labels == label
        own = scores[points & known]
        count = len(own) + SHRINKAGE
        mean = (own.sum() + SHRINKAGE * middle) / count
        apart = (own - mean).square().sum() + SHRINKAGE * variance
        deviation = (apart / count).sqrt().clamp(min=least)
        found[points] = (scores[points] - mean) / deviation
    return found
