"""Metrics of a ranking, from counts: how well scores tell positive from negative points.

Positive points (attacked points, poison rows) should score higher than negative ones (controls, clean
rows). Points of equal score are tied: a tie counts as half a win in AUROC. Cost: one sort.
"""

from dataclasses import dataclass

import numpy as np

from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.samples import Sample

LEVELS = (0.001, 0.01, 0.05)  # false-positive rates at which the true-positive rate is read


@dataclass(frozen=True, eq=False)
class Counts:
    """How positive and negative points are ordered by their scores: all that a ranking metric needs.

    The J different scores of the positive points, descending, divide the negative points into those
    above the first, those tied with it, those between it and the second, ..., and those below all.

    Attributes:
        positives: (..., J) positive points of each score.
        negatives: (..., 2J + 1) negative points above, tied, between, tied, ..., below.
    """

    positives: Array
    negatives: Array

    @classmethod
    def of(cls, positive: Array, negative: Array) -> "Counts":
        """Counts finite scores: (a,) of the positive points, a >= 1, and (c,) of the negative."""
        levels, positives = np.unique(-positive, return_counts=True)
        left = np.searchsorted(levels, -negative, "left")
        right = np.searchsorted(levels, -negative, "right")
        negatives = np.bincount(left + right, minlength=2 * len(levels) + 1)
        return cls(positives.astype(float), negatives.astype(float))

    @property
    def found(self) -> Array:
        """(..., J) positive points of each score or a higher one."""
        return self.positives.cumsum(-1)

    @property
    def above(self) -> Array:
        """(..., J) negative points of a higher score than each."""
        found: Array = self.negatives.cumsum(-1)[..., 0:-1:2]
        return found

    @property
    def reached(self) -> Array:
        """(..., J) negative points of each score or a higher one."""
        found: Array = self.negatives.cumsum(-1)[..., 1::2]
        return found


def auroc(counts: Counts) -> Array:
    """Returns the share of (positive, negative) pairs won, where a tie is half a win: (...)."""
    size = counts.positives.sum(-1)
    other = counts.negatives.sum(-1)
    beaten = other[..., None] - (counts.above + counts.reached) / 2
    wins = (counts.positives * beaten).sum(-1)
    share: Array = wins / (size * other)
    return share


def average_precision(counts: Counts) -> Array:
    """Returns the AUPRC: the mean over the positive points of the precision at their score: (...)."""
    found = counts.found
    precision = found / np.maximum(found + counts.reached, 1)
    mean: Array = (counts.positives * precision).sum(-1) / counts.positives.sum(-1)
    return mean


def recall_at_size(counts: Counts) -> Array:
    """Returns the share of the a positive points that is among the a highest scores: (...).

    Among tied points the order is random: the mean over all orders is returned.
    """
    size = counts.positives.sum(-1, keepdims=True)
    before = counts.above + counts.found - counts.positives  # points of a higher score
    tied = counts.positives + counts.reached - counts.above  # points of the same score
    share = np.clip((size - before) / np.maximum(tied, 1), 0, 1)
    recall: Array = (counts.positives * share).sum(-1) / size[..., 0]
    return recall


def true_positive_rate(counts: Counts, level: float) -> Array:
    """Returns the largest true-positive rate whose false-positive rate is at most `level`: (...)."""
    false_rate = counts.reached / counts.negatives.sum(-1, keepdims=True)
    true_rate = counts.found / counts.positives.sum(-1, keepdims=True)
    best: Array = np.where(false_rate <= level, true_rate, 0.0).max(-1)
    return best


def roc_curve(counts: Counts) -> tuple[Array, Array]:
    """Returns the corners of the ROC curve of counts (J,) and (2J + 1,).

    Returns:
        False- and true-positive rates, (2J + 2,) each, ascending from (0, 0) to (1, 1).
    """
    found = counts.found
    false = np.stack([counts.above, counts.reached], -1).ravel()
    true = np.stack([found - counts.positives, found], -1).ravel()
    false_rate = np.concatenate([[0.0], false / counts.negatives.sum(), [1.0]])
    true_rate = np.concatenate([[0.0], true / counts.positives.sum(), [1.0]])
    return false_rate, true_rate


def ranking(sample: Sample, matched: bool = False) -> dict[str, Metric]:
    """Returns AUROC, AUPRC, and the true-positive rates at the false-positive rates `LEVELS`.

    Args:
        sample: the scores of one scene.
        matched: compare with the matched controls alone; the names then end in `_matched`.
    """
    suffix = "_matched" if matched else ""
    names = ["auroc", "auprc", *(f"tpr_at_{level}" for level in LEVELS)]
    reason = sample.undefined(matched)
    if reason:
        return dict.fromkeys([name + suffix for name in names], undefined(reason))
    counts = Counts.of(sample.positive, sample.against(matched))
    values = [auroc(counts), average_precision(counts)]
    values += [true_positive_rate(counts, level) for level in LEVELS]
    return {name + suffix: Metric(float(value)) for name, value in zip(names, values, strict=True)}


def ties(sample: Sample) -> Metric:
    """Returns the share of all points whose score another point has too."""
    reason = sample.undefined()
    if reason not in ("", sample.CONSTANT):
        return undefined(reason)
    scores = np.concatenate([sample.positive, sample.negative])
    _, counts = np.unique(scores, return_counts=True)
    return Metric(float(counts[counts > 1].sum() / counts.sum()))
