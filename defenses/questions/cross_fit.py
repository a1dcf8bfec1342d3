"""Cross-fitting: trusted points are judged as if they were not among the trusted ones.

Each half of them is held against the other half, so that all of them set a threshold, as in
cross-conformal prediction (Vovk, Annals of Mathematics and Artificial Intelligence 2015). And a
score is told among those of its label: where a label is poisoned, clean points that are predicted
as it score higher, too, as their influence is spread over the poison rows.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from poisonbench.contracts.calibration import reference_half

SHRINKAGE = (
    10.0  # points with the mean and the variance of all labels, added to each label
)
ROUNDING = 1e-9  # of the largest score: what differs less has no spread


def crossed(held_against: Callable[[Tensor], Tensor], trusted: Tensor) -> Tensor:
    """Returns values of m points, (..., m), those of trusted ones from the other half of these.

    Args:
        held_against: known points, (m,) bool, to the values of all points held against them.
        trusted: (m,) bool, in random order, at least 2.
    """
    first = reference_half(trusted)
    second = trusted & ~first
    found = held_against(trusted)
    found = torch.where(first, held_against(second), found)
    return torch.where(second, held_against(first), found)


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
