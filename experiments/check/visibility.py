"""Whether a victim can see a trigger at all: a network whose strides drop the border is blind to a patch there at any budget.

Cost: one backward pass over 64 random images.
"""

import torch
from torch import Tensor, nn

from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.seeding import generator

ROWS = 64  # a pixel that reaches the logits is the largest of its pooling window in some of them


def seen(model: nn.Module, x: Tensor) -> Tensor:
    """Returns (*shape) bool: the pixels with a gradient at the logits for at least one of the images x, (k, *shape)."""
    was_training = model.training
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.eval()(x).square().sum(), x)
    model.train(was_training)
    return (gradient != 0).any(0)


def seen_by(name: str, data: Dataset) -> Tensor:
    """Returns (*shape) bool on the CPU: the pixels that the untrained model `name` sees in random images of the data's shape.

    Random weights and images, so that the answer is about the architecture: what is unseen then no training can reach.
    """
    x = torch.rand((ROWS, *data.shape), generator=generator(0, "blind"))
    return seen(build(name, data.shape, data.classes, 0), x)


def share_seen(name: str, poisoned: Poisoned, test: Dataset) -> float | None:
    """Returns the share of the pixels changed in the attacked test points that the model sees: 0 = the victim is blind.

    Args:
        name: of the victim's model, for `poisonbench.models.build`.
        poisoned: what the attack returned.
        test: the clean test set that it was given.

    Returns:
        A number in [0, 1], or None where no attacked test point differs from the clean one it comes from: there is no trigger.
    """
    known = poisoned.target_origin >= 0
    changed = (poisoned.targets.x[known] != test.x[poisoned.target_origin[known]]).cpu()
    if not bool(changed.any()):
        return None
    return float((changed & seen_by(name, test)).sum() / changed.sum())
