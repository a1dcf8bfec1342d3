"""The plan of a training run: which rows make each step, at which learning rate."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from poisonbench.seeding import generator
from poisonbench.training.recipe import Recipe

WARMING = 0.3  # share of the steps of "one-cycle" over which the learning rate rises


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
    share = recipe.warmup
    if recipe.schedule == "one-cycle":
        share = WARMING
    warm = math.ceil(share * steps)
    up = (t + 1) / max(warm, 1)
    after = torch.ones_like(t)
    if recipe.schedule != "constant":
        angle = math.pi * (t - warm) / max(steps - warm, 1)
        after = (1 + torch.cos(angle)) / 2
    return recipe.lr * torch.where(t < warm, up, after)
