"""What mitigations that work on a detector's flags share: the flagged points, and how they fare."""

import warnings

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.training.trace import Trace


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
