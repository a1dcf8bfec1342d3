"""What is differentiated: cross entropy or the margin, with gradients that are right at any confidence."""

from typing import Literal

import torch
from torch import Tensor

Objective = Literal["loss", "margin"]


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
    return ascent if objective == "margin" else -torch.sigmoid(-margins(logits, y))[:, None] * ascent
