"""What attacks share that optimise their poison: the attacker's own model, and descent inside a ball around the clean rows."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonbench import training
from poisonbench.data import Dataset
from poisonbench.notes import note
from poisonbench.seeding import derive
from poisonbench.training import Recipe, exact_arithmetic, predict

BLOCK = 256  # rows crafted at a time, where each row is crafted by itself


def surrogate(train: Dataset, own: Recipe | None, victim: Recipe, seed: int, member: int = 0) -> nn.Module:
    """Returns the model that the attacker trains on the clean set; its training accuracy goes into the log.

    Args:
        train: the clean training set.
        own: the attacker's recipe; None takes the victim's (white box), with its pretrained features in transfer.
        victim: the victim's recipe.
        seed: of the attack.
        member: which of several surrogates: each has a seed of its own.

    Returns:
        A model in evaluation mode; what its recipe does not train (frozen features) has requires_grad=False.
    """
    note("surrogate", "white box" if own is None else repr(own))
    model = training.train(train, own or victim, derive(seed, "surrogate", *([member] if member else []))).model()
    right = predict(model, train.x).argmax(1) == train.y
    note(f"surrogate{member or ''}_accuracy", float(right.float().mean()))
    return model


def project(x: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Returns the point nearest to x within the max-norm ball of radius eps around `clean`, and in [0, 1]."""
    return torch.minimum(torch.maximum(x, clean - eps), clean + eps).clamp(0, 1)


def signed_descent(
    objective: Callable[[Tensor], Tensor],
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    step: float | None = None,
    decay: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    """Projected gradient descent with signed steps (Madry et al., ICLR 2018, arXiv 1706.06083).

    Args:
        objective: (k, *shape) -> (k,) or a scalar, to be made small.
        clean: (k, *shape), the centres of the balls.
        eps: radius in the max norm.
        steps: number of steps.
        step: length of one; None means 2.5 eps / steps, enough to cross the ball.
        decay: let the length fall linearly to 0, so that the last steps settle.
        start: (k, *shape) where to begin; None for `clean`.

    Returns:
        (k, *shape) within the ball and in [0, 1].
    """
    size = 2.5 * eps / steps if step is None else step
    x = project(clean if start is None else start, clean, eps).detach()
    with exact_arithmetic():
        for t in range(steps):
            with torch.enable_grad():
                x.requires_grad_()
                (gradient,) = torch.autograd.grad(objective(x).sum(), x)
            x = project(x.detach() - size * (1 - t / steps if decay else 1) * gradient.sign(), clean, eps)
    return x
