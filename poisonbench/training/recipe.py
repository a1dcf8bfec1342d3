"""The recipe of a training run, and its plan: which rows make each step, at which learning rate."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_not_negative,
    check_number,
    check_positive,
    check_share,
    check_type,
    check_whole,
)
from poisonbench.data import Dataset
from poisonbench.models import build
from poisonbench.seeding import generator
from poisonbench.training.start import Start

SCHEDULES = ("constant", "cosine", "one-cycle")
WARMING = 0.3  # share of the steps of "one-cycle" over which the learning rate rises


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
        schedule: "constant", "cosine" (to 0), or "one-cycle" (linear up over the first 30 % of the
            steps, then cosine to 0).
        checkpoints: number of checkpoints kept, evenly spaced over the steps; the last is the
            final model.
        start: the pretrained model from which training starts (transfer); None starts from the
            seed. It is left out of the repr and of configurations, which tell how it was made.

    Raises:
        TypeError: a value of another type, such as a model in the place of its name.
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
        default=None,
        repr=False,
        metadata={"configured": False, "settable": False},
    )

    def __post_init__(self) -> None:
        check_type(
            "model", self.model, str, "a name of a model, or 'package.module:callable'"
        )
        for name in ("epochs", "batch_size", "checkpoints"):
            value = getattr(self, name)
            check_whole(name, value)
            check_at_least(name, value, 1)
        for name in ("lr", "momentum", "weight_decay"):
            check_number(name, getattr(self, name))
        check_positive("lr", self.lr)
        check_share("momentum", self.momentum)
        check_not_negative("weight_decay", self.weight_decay)
        check_choice("schedule", self.schedule, SCHEDULES)
        check_type("nesterov", self.nesterov, bool, "True or False")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")
        if self.start is not None:
            check_type("start", self.start, Start, "a Start or None")


def check_arguments(
    data: Dataset,
    recipe: Recipe,
    seed: int,
) -> None:
    """Refuses what no model can be trained with.

    Raises:
        TypeError: `data` is no Dataset, `recipe` no Recipe, or `seed` no whole number.
        ValueError: there is no training instance.
    """
    check_type("data", data, Dataset, "a poisonbench.data.Dataset")
    check_type("recipe", recipe, Recipe, "a poisonbench.training.Recipe")
    check_whole("seed", seed)
    if not len(data):
        raise ValueError("training needs at least 1 instance, got a data set of 0 rows")


def starting_model(
    recipe: Recipe,
    data: Dataset,
    seed: int,
) -> nn.Module:
    """Builds the model from which a run with this seed starts, in evaluation mode.

    It lies on the device of the data, in their dtype. In transfer it has the pretrained state, and
    parameters that are not trained do not require a gradient.

    Raises:
        ConfigError: no such model, or the pretrained state does not fit it.
    """
    model = build(recipe.model, data.layout, seed)
    model = model.to(device=data.x.device, dtype=data.dtype)
    if recipe.start is not None:
        recipe.start.enter(model)
    return model


def training_mode(model: nn.Module, recipe: Recipe) -> None:
    """Puts a model into training mode; frozen features compute as in evaluation."""
    if recipe.start is None:
        model.train()
    else:
        recipe.start.begin_step(model)


def epoch_steps(n: int, recipe: Recipe) -> int:
    """Returns the number of steps in which an epoch passes over n >= 1 instances."""
    width = min(recipe.batch_size, n)
    return math.ceil(n / width)


def permutations(n: int, seed: int) -> Iterator[Tensor]:
    """Yields the order of the n instances in each epoch, (n,) int64, without end."""
    g = generator(seed, "batches")
    while True:
        yield torch.randperm(n, generator=g)


def batch_order(
    n: int,
    recipe: Recipe,
    seed: int,
) -> Tensor:
    """Returns (T, B) int64: a permutation of the n instances an epoch, cut into batches.

    The last batch of an epoch is padded with -1.
    """
    width = min(recipe.batch_size, n)
    places = epoch_steps(n, recipe) * width
    order = torch.full((recipe.epochs, places), -1, dtype=torch.int64)
    for epoch, permutation in zip(order, permutations(n, seed), strict=False):
        epoch[:n] = permutation
    return order.view(-1, width)


def learning_rates(steps: int, recipe: Recipe) -> Tensor:
    """Returns (T,) float64, the learning rate of every step."""
    t = torch.arange(steps, dtype=torch.float64)
    if recipe.schedule == "constant":
        return torch.full_like(t, recipe.lr)
    warm = 0
    if recipe.schedule == "one-cycle":
        warm = math.ceil(WARMING * steps)
    up = (t + 1) / max(warm, 1)
    angle = math.pi * (t - warm) / (steps - warm)
    down = (1 + torch.cos(angle)) / 2
    return recipe.lr * torch.where(t < warm, up, down)
