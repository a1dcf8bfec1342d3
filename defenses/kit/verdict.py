"""What mitigations that work on a detector's flags share: the flagged points, and how they fare."""

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training.trace import Trace

# of clean points alone so many flagged ones of a label are rarer than this
_CHANCE = 1e-3


def flagged_points(name: str, evidence: Evidence, means: Means) -> Dataset:
    """Returns the test points that the detector flags, with the labels predicted at first.

    Args:
        name: of the mitigation, for the messages.
        evidence: must have training rows and test points.
        means: must have a detector's flags and an estimator's influence.

    Raises:
        TypeError: it is no Evidence.
        ValueError: something is missing.
    """
    check_points(evidence)
    if means.flags is None or means.influence is None:
        needs = "a detector's flags (m,) and an estimator's influence"
        raise ValueError(f"{name} works on {needs}, got None")
    return evidence.test.take(means.flags)


def influence_by(means: Means, trace: Trace, points: Dataset) -> Tensor:
    """Returns the influence of the k rows of a run on m points, (m, k), by the estimator.

    NaN, with a warning, where it is not finite.
    """
    assert means.influence is not None
    influence = means.influence(trace, points)
    influence = influence.to(points.x.device, points.dtype)
    finite = influence.isfinite()
    bad = int((~finite).any(1).sum())
    if bad:
        warnings.warn(
            f"{bad} of {len(points)} points have an influence that is not finite: it is left out",
            stacklevel=5,
        )
    return influence.masked_fill(~finite, torch.nan)


def kept_label(trace: Trace, points: Dataset) -> Tensor:
    """Returns which of the points the run's model gives their label, (m,) bool."""
    if not len(points):
        return points.y.bool()
    logits = predict(trace.model(), points.x)
    return logits.argmax(1) == points.y


def kept_labels(trace: Trace, points: Dataset, share: float) -> Tensor:
    """Returns the labels that the run's model gives to more than a share of their points, (l,).

    Args:
        trace: the run.
        points: with the labels in question.
        share: in [0, 1].
    """
    labels: Tensor
    labels, place = points.y.unique(return_inverse=True)
    keeps = kept_label(trace, points)
    kept = keeps.to(points.dtype)
    count = kept.new_zeros(len(labels))
    count.index_add_(0, place, kept)
    total = place.bincount(minlength=len(labels))
    return labels[count / total > share]


def points_judged(evidence: Evidence, means: Means) -> Dataset:
    """Returns the test points that a detector may flag: those not known to be clean."""
    if means.known is None:
        return evidence.test
    return evidence.test.take(~means.known)


def known_points(evidence: Evidence, means: Means) -> Dataset:
    """Returns the test points known to be clean, none where none are told."""
    if means.known is None:
        return evidence.test.take(torch.zeros_like(evidence.test.y, dtype=torch.bool))
    return evidence.test.take(means.known)


def beyond_chance(flagged: Dataset, judged: Dataset, alarm: float) -> Tensor:
    """Returns the labels with more flagged points than false alarms give, (l,).

    By the binomial tail, times the number of labels.

    Args:
        flagged: some of `judged`.
        judged: all points that may be flagged.
        alarm: share of clean points that is flagged.
    """
    found = flagged.y.bincount(minlength=judged.classes)
    told = judged.y.bincount(minlength=judged.classes)
    chance = _tail(found, told, alarm) * judged.classes
    return (chance < _CHANCE).nonzero().squeeze(1).to(judged.y.device)


def false_alarms(judged: Dataset, label: Tensor, alarm: float) -> float:
    """Returns how many points of a label are flagged without cause on the mean.

    Args:
        judged: all points that may be flagged.
        label: ().
        alarm: share of clean points that is flagged.
    """
    return alarm * int((judged.y == label).sum())


def attacked_beyond_doubt(flagged: Dataset, judged: Dataset, alarm: float) -> bool:
    """Returns whether more points of all labels are flagged than false alarms give."""
    found = torch.tensor([len(flagged)])
    told = torch.tensor([len(judged)])
    return bool(_tail(found, told, alarm) < _CHANCE)


def _tail(found: Tensor, told: Tensor, alarm: float) -> Tensor:
    """Returns how likely so many of the points told are flagged without cause, float64."""
    from scipy.stats import binom  # slow to import, and few processes need it

    tail = binom.sf(found.cpu().numpy() - 1, told.cpu().numpy(), alarm)
    return torch.as_tensor(tail)


class Runs:
    """The victim's training runs on parts of its rows."""

    def __init__(self, trace: Trace, means: Means) -> None:
        everything = torch.ones_like(trace.train.y, dtype=torch.bool)
        self.train = trace.train
        self.means = means
        self.first = Mitigated(everything, trace, 0)

    def without(self, keep: Tensor, before: int) -> Mitigated:
        """Returns the run on the rows `keep`, (n,) bool, after `before` runs.

        On all rows that is the victim's own, and costs none.
        """
        if bool(keep.all()):
            return replace(self.first, retrainings=before)
        trace = self.means.retrain(keep)
        return Mitigated(keep, trace, before + 1)

    def agreed(self, done: Mitigated) -> Tensor:
        """Returns the rows kept, and those that the model without them gives their label, (n,)."""
        out = ~done.keep
        keep = done.keep.clone()
        removed = self.train.take(out)
        keep[out] = kept_label(done.trace, removed)
        return keep

    def acquitted(self, trial: Mitigated, labels: Tensor) -> Tensor:
        """Returns the rows that a trial does not convict, (n,): agreed on, or of no label tried."""
        tried = torch.isin(self.train.y, labels)
        return self.agreed(trial) | ~tried

    def upper(self, done: Mitigated, points: Dataset, part: float) -> Tensor:
        """Returns the rows that are the upper part of each label of `points`, (k,) int64.

        Of the rows kept, by mean influence on the label's points, the highest first.
        """
        influence = influence_by(self.means, done.trace, points)
        y = done.trace.train.y
        rows = done.keep.nonzero().squeeze(1)
        found = [rows[:0]]
        for label in points.y.unique():
            own = y == label
            of_label = influence[points.y == label]
            mean = of_label[:, own].nanmean(0)
            mean = mean.masked_fill(mean.isnan(), -torch.inf)
            count = int(part * len(mean))
            top = mean.topk(count)
            known = top.values > -torch.inf
            found.append(rows[own][top.indices[known]])
        return torch.cat(found)
