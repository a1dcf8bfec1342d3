"""The recipe of a training run, and the plan that follows from it: which rows make each step, at which learning rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.seeding import generator
from poisonbench.training.start import Start

SCHEDULES = ("constant", "cosine", "one-cycle")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run with SGD, in PyTorch's meaning of each.

    Attributes:
        model: name for `poisonbench.models.build`.
        epochs: passes over the training set.
        batch_size: instances of a step; the last batch of an epoch may be smaller.
        lr: peak learning rate.
        momentum: mu in [0, 1); the buffer starts without dampening.
        nesterov: Nesterov momentum.
        weight_decay: w, the gradient of (w/2)|theta|^2.
        schedule: "constant", "cosine" (to 0), or "one-cycle" (linear up over the first 30 % of the steps, then cosine to 0).
        checkpoints: number of checkpoints kept, evenly spaced over the steps; the last is the final model.
        start: the pretrained model from which training starts (transfer); None starts from the seed. It is left out of the repr
            and of configurations, which tell how it was made.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    model: str = "cnn"
    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    checkpoints: int = 6
    start: Start | None = field(
        default=None, repr=False, metadata={"configured": False, "settable": False}
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(
                f"weight_decay must be non-negative and finite, got {self.weight_decay}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")


def starting_model(recipe: Recipe, data: Dataset, seed: int) -> nn.Module:
    """Builds the model from which a run with this seed starts: in evaluation mode, on the device and in the dtype of the data.

    In transfer it has the pretrained state, and parameters that are not trained do not require a gradient.

    Raises:
        ConfigError: no such model, or the pretrained state does not fit it.
    """
    model = build(recipe.model, data.shape, data.classes, seed).to(
        device=data.x.device, dtype=data.x.dtype
    )
    if recipe.start is not None:
        recipe.start.enter(model)
    return model


def training_mode(model: nn.Module, recipe: Recipe) -> None:
    """Puts a model into the mode in which the recipe trains it: frozen features compute as in evaluation."""
    if recipe.start is None:
        model.train()
    else:
        recipe.start.begin_step(model)


def epoch_steps(n: int, recipe: Recipe) -> int:
    """Returns the number of steps in which an epoch passes over n >= 1 instances."""
    return math.ceil(n / min(recipe.batch_size, n))


def permutations(n: int, seed: int) -> Iterator[Tensor]:
    """Yields the order of the n instances in each epoch, (n,) int64, without end."""
    g = generator(seed, "batches")
    while True:
        yield torch.randperm(n, generator=g)


def batch_order(n: int, recipe: Recipe, seed: int) -> Tensor:
    """Returns (T, B) int64: a fresh permutation of the n instances an epoch, cut into batches, -1 pads."""
    width = min(recipe.batch_size, n)
    order = torch.full((recipe.epochs, epoch_steps(n, recipe) * width), -1, dtype=torch.int64)
    for epoch, permutation in zip(order, permutations(n, seed), strict=False):
        epoch[:n] = permutation
    return order.view(-1, width)


def learning_rates(steps: int, recipe: Recipe) -> Tensor:
    """Returns (T,) float64, the learning rate of every step."""
    t = torch.arange(steps, dtype=torch.float64)
    if recipe.schedule == "constant":
        return torch.full_like(t, recipe.lr)
    warm = math.ceil(0.3 * steps) if recipe.schedule == "one-cycle" else 0
    up = (t + 1) / max(warm, 1)
    down = (1 + torch.cos(math.pi * (t - warm) / (steps - warm))) / 2
    return recipe.lr * torch.where(t < warm, up, down)
