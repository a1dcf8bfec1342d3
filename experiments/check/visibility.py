"""Whether a victim can see a trigger at all.

A network whose strides drop the border is blind to a patch there at any budget.

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
    """Returns (*shape) bool: the pixels that move the logits of an image of x, (k, *shape)."""
    was_training = model.training
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        logits = model.eval()(x)
        gradient = torch.autograd.grad(logits.square().sum(), x)[0]
    model.train(was_training)
    return (gradient != 0).any(0)


def seen_by(name: str, data: Dataset) -> Tensor:
    """Returns (*shape) bool on the CPU: the pixels that the untrained model `name` sees.

    Random weights and random images of the data's shape, so that the answer is about the
    architecture: what is unseen then no training can reach.
    """
    g = generator(0, "blind")
    x = torch.rand((ROWS, *data.shape), generator=g)
    model = build(name, data.layout, 0)
    return seen(model, x)


def share_seen(name: str, poisoned: Poisoned, test: Dataset) -> float | None:
    """Returns the share of the pixels changed in the attacked test points that the model sees.

    0 = the victim is blind.

    Args:
        name: of the victim's model, for `poisonbench.models.build`.
        poisoned: what the attack returned.
        test: the clean test set that it was given.

    Returns:
        A number in [0, 1], or None where no attacked test point differs from the clean one it comes
        from: there is no trigger.
    """
    known = poisoned.target_origin >= 0
    source = test.x[poisoned.target_origin[known]]
    changed = (poisoned.targets.x[known] != source).cpu()
    if not bool(changed.any()):
        return None
    changed_and_seen = changed & seen_by(name, test)
    return float(changed_and_seen.sum() / changed.sum())
