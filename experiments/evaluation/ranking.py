"""Metrics of a ranking, from counts: how well scores tell positive from negative points.

Positive points (attacked points, poison rows) should score higher than negative ones (controls,
clean rows). Points of equal score are tied: a tie counts as half a win in AUROC. Cost: one sort.
"""

from dataclasses import dataclass

import numpy as np

from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.samples import Sample

# false-positive rates at which the true-positive rate is read
LEVELS = (0.001, 0.01, 0.05)
NAMES = ("auroc", "auprc", *(f"tpr_at_{level}" for level in LEVELS))


@dataclass(frozen=True, eq=False)
class Counts:
    """How positive and negative points are ordered by score: all that these metrics need.

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
        places = 2 * len(levels) + 1
        negatives = np.bincount(left + right, minlength=places)
        return cls(positives.astype(float), negatives.astype(float))

    @property
    def size(self) -> Array:
        """(...) positive points."""
        return np.asarray(self.positives.sum(-1))

    @property
    def other_size(self) -> Array:
        """(...) negative points."""
        return np.asarray(self.negatives.sum(-1))

    @property
    def found(self) -> Array:
        """(..., J) positive points of each score or a higher one."""
        return self.positives.cumsum(-1)

    @property
    def above(self) -> Array:
        """(..., J) negative points of a higher score than each."""
        running = self.negatives.cumsum(-1)
        return np.asarray(running[..., 0:-1:2])

    @property
    def reached(self) -> Array:
        """(..., J) negative points of each score or a higher one."""
        running = self.negatives.cumsum(-1)
        return np.asarray(running[..., 1::2])


def auroc(counts: Counts) -> Array:
    """Returns the share of (positive, negative) pairs won, where a tie is half a win: (...)."""
    lost = (counts.above + counts.reached) / 2  # to negative points, by each score
    won = counts.other_size[..., None] - lost
    wins = (counts.positives * won).sum(-1)
    pairs = counts.size * counts.other_size
    return np.asarray(wins / pairs)


def average_precision(counts: Counts) -> Array:
    """Returns the AUPRC, the mean precision at the scores of the positive points: (...)."""
    found = counts.found
    reached = found + counts.reached
    precision = found / np.maximum(reached, 1)
    summed = (counts.positives * precision).sum(-1)
    return np.asarray(summed / counts.size)


def recall_at_size(counts: Counts) -> Array:
    """Returns the share of the a positive points that is among the a highest scores: (...).

    Among tied points the order is random: the mean over all orders is returned.
    """
    before = counts.above + counts.found - counts.positives  # points of a higher score
    tied = counts.positives + counts.reached - counts.above  # points of the same score
    room = counts.size[..., None] - before  # for them among the highest scores
    share = np.clip(room / np.maximum(tied, 1), 0, 1)
    summed = (counts.positives * share).sum(-1)
    return np.asarray(summed / counts.size)


def true_positive_rate(counts: Counts, level: float) -> Array:
    """Returns the largest true-positive rate at a false-positive rate up to `level`: (...)."""
    false_rate = counts.reached / counts.other_size[..., None]
    true_rate = counts.found / counts.size[..., None]
    allowed = np.where(false_rate <= level, true_rate, 0.0)
    return np.asarray(allowed.max(-1))


def roc_curve(counts: Counts) -> tuple[Array, Array]:
    """Returns the corners of the ROC curve of counts (J,) and (2J + 1,).

    Returns:
        False- and true-positive rates, (2J + 2,) each, ascending from (0, 0) to (1, 1).
    """
    found = counts.found
    before = found - counts.positives
    true = np.stack([before, found], -1) / counts.size
    false = np.stack([counts.above, counts.reached], -1) / counts.other_size
    return _from_0_to_1(false), _from_0_to_1(true)


def _from_0_to_1(rates: Array) -> Array:
    """The rates in a row, between 0 and 1."""
    return np.concatenate([[0.0], rates.ravel(), [1.0]])


def ranking(sample: Sample, matched: bool = False) -> dict[str, Metric]:
    """Returns AUROC, AUPRC, and the true-positive rates at the false-positive rates `LEVELS`.

    Args:
        sample: the scores of one scene.
        matched: compare with the matched controls alone; the names then end in `_matched`.
    """
    suffix = "_matched" if matched else ""
    reason = sample.undefined(matched)
    if reason:
        return {f"{name}{suffix}": undefined(reason) for name in NAMES}
    counts = Counts.of(sample.positive, sample.against(matched))
    values = {
        "auroc": auroc(counts),
        "auprc": average_precision(counts),
    }
    for level in LEVELS:
        values[f"tpr_at_{level}"] = true_positive_rate(counts, level)
    return {f"{name}{suffix}": Metric(float(values[name])) for name in NAMES}


def ties(sample: Sample) -> Metric:
    """Returns the share of all points whose score another point has too."""
    reason = sample.undefined()
    if reason not in ("", sample.CONSTANT):
        return undefined(reason)
    scores = np.concatenate([sample.positive, sample.negative])
    _, counts = np.unique(scores, return_counts=True)
    shared = counts[counts > 1].sum()
    return Metric(float(shared / len(scores)))
