"""What is differentiated, cross entropy or the margin, right at any confidence; and what is measured of a model at a point."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Objective = Literal["loss", "margin"]
Measure = Literal["loss", "margin", "correct"]
MEASURES = ("loss", "margin", "correct")


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Returns f_y - logsumexp of the other logits, (B,) for logits (B, C): cross entropy is softplus(-margin)."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).logsumexp(1)


def logit_gradient(logits: Tensor, y: Tensor, objective: Objective) -> Tensor:
    """Returns d objective / d logits, (B, C), in closed form and right at any confidence.

    The loss gradient is -sigmoid(-margin) times the margin gradient, so it never passes through p_y - 1, whose float32
    rounding turns its direction from a margin of 17 on.
    """
    others = logits.scatter(1, y[:, None], -torch.inf).softmax(1)
    ascent = (-others).scatter(1, y[:, None], 1.0)
    return (
        ascent if objective == "margin" else -torch.sigmoid(-margins(logits, y))[:, None] * ascent
    )


def utility(logits: Tensor, y: Tensor, measure: Measure) -> Tensor:
    """Returns how well each of m test points is served, larger = better: what estimators that retrain take differences of.

    Args:
        logits: (..., m, C), as of K models.
        y: (m,) int64, the labels at which they are judged.
        measure: "loss": minus the cross entropy; "margin": f_y - logsumexp of the other logits; "correct": 1 or 0.

    Returns:
        (..., m) in the dtype of the logits, NaN where a logit is (of a model that diverged).

    Raises:
        ValueError: no such measure.
    """
    labels = y.expand(logits.shape[:-1])
    if measure == "correct":
        return torch.where(
            logits.isfinite().all(-1), (logits.argmax(-1) == labels).to(logits.dtype), torch.nan
        )
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    margin = margins(logits.flatten(0, -2), labels.flatten()).view(labels.shape)
    return margin if measure == "margin" else F.logsigmoid(margin)
