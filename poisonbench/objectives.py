"""What is differentiated, cross entropy or the margin, and what is measured of a model at a point.

Both are right at any confidence.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Objective = Literal["loss", "margin"]
Measure = Literal["loss", "margin", "correct"]
MEASURES = ("loss", "margin", "correct")


def margins(
    logits: Tensor,
    y: Tensor,
) -> Tensor:
    """Returns f_y - logsumexp of the other logits: cross entropy is softplus(-margin).

    Args:
        logits: (B, C).
        y: (B,) int64.

    Returns:
        (B,).
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = _others(logits, y).logsumexp(1)
    return own - others


def _others(
    logits: Tensor,
    y: Tensor,
) -> Tensor:
    """Returns the logits (B, C) with -inf at the labels."""
    return logits.scatter(1, y[:, None], -torch.inf)


def logit_gradient(
    logits: Tensor,
    y: Tensor,
    objective: Objective,
) -> Tensor:
    """Returns d objective / d logits in closed form, right at any confidence.

    The loss gradient is -sigmoid(-margin) times the margin gradient, so it never passes through
    p_y - 1, whose float32 rounding turns its direction from a margin of 17 on.

    Args:
        logits: (B, C).
        y: (B,) int64.
        objective: what is differentiated.

    Returns:
        (B, C).
    """
    others = _others(logits, y).softmax(1)
    ascent = (-others).scatter(1, y[:, None], 1.0)
    if objective == "margin":
        return ascent
    doubt = torch.sigmoid(-margins(logits, y))
    return -doubt[:, None] * ascent


def utility(
    logits: Tensor,
    y: Tensor,
    measure: Measure,
) -> Tensor:
    """Returns how well each of m test points is served, larger = better.

    Estimators that retrain take differences of it.

    Args:
        logits: (..., m, C), as of K models.
        y: (m,) int64, the labels at which they are judged.
        measure: "loss": minus the cross entropy; "margin": f_y - logsumexp of the other logits;
            "correct": 1 or 0.

    Returns:
        (..., m) in the dtype of the logits, NaN where a logit is (of a model that diverged).

    Raises:
        ValueError: no such measure.
    """
    labels = y.expand(logits.shape[:-1])
    if measure == "correct":
        return _correctness(logits, labels)
    if measure not in MEASURES:
        allowed = ", ".join(MEASURES)
        raise ValueError(f"measure must be one of {allowed}, got {measure!r}")
    margin = margins(logits.flatten(0, -2), labels.flatten())
    margin = margin.view(labels.shape)
    if measure == "margin":
        return margin
    return F.logsigmoid(margin)


def _correctness(
    logits: Tensor,
    labels: Tensor,
) -> Tensor:
    """Returns 1 where the largest logit is the label's, else 0, (..., m); NaN as `utility`."""
    correct = logits.argmax(-1) == labels
    finite = logits.isfinite().all(-1)
    return torch.where(finite, correct.to(logits.dtype), torch.nan)
