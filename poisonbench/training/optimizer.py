"""The optimisers of a recipe, as PyTorch has them: of one model, and of K stacked ones."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from poisonbench.training.recipe import Recipe


def optimizer_of(parameters: Iterable[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    """Returns the optimiser of the given parameters; the loop sets its rate before every step."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=1.0,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        parameters,
        lr=1.0,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


class Descent(Protocol):
    """An optimiser of stacked parameters (K, *shape): what it does is done entry by entry."""

    def step(self, rate: float) -> None:
        """Takes a step at this learning rate; a parameter without a gradient stays as it is."""
        ...


class AdamW:
    """`torch.optim.AdamW` itself: all models have taken equally many steps."""

    def __init__(self, leaves: list[Tensor], recipe: Recipe) -> None:
        self.optimizer = optimizer_of(leaves, recipe)

    def step(self, rate: float) -> None:
        """See `Descent`."""
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()


class SGD:
    """The operations of `torch.optim.SGD`, in one pass over the entries.

    Attributes:
        leaves: the parameters of all models, (K, *shape) each.
        momentum: their buffers; None before the first step.
    """

    def __init__(self, leaves: list[Tensor], recipe: Recipe) -> None:
        self.recipe = recipe
        self.leaves = leaves
        self.momentum: list[Tensor | None] | None = None

    def step(self, rate: float) -> None:
        """See `Descent`."""
        used = []
        gradients = []
        for leaf in self.leaves:
            if leaf.grad is not None:
                used.append(leaf)
                gradients.append(leaf.grad)
        if self.momentum is None:
            self.momentum = [None] * len(used)
        sgd(
            used,
            gradients,
            self.momentum,
            fused=True,
            weight_decay=self.recipe.weight_decay,
            momentum=self.recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.recipe.nesterov,
            maximize=False,
        )


def stacked_optimizer(leaves: list[Tensor], recipe: Recipe) -> Descent:
    """Returns the optimiser of the parameters of K models, (K, *shape) each."""
    if recipe.optimizer == "adamw":
        return AdamW(leaves, recipe)
    return SGD(leaves, recipe)
