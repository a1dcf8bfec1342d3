"""Which instances make each step of each of many models, and with which weight."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

import torch
from torch import Tensor

from poisonbench.checks import check_choice
from poisonbench.data import Dataset
from poisonbench.training.order import epoch_steps, permutations
from poisonbench.training.recipe import Recipe

Batches = Literal["own", "full"]
Convention = Literal["A", "B"]


@dataclass(frozen=True, eq=False)
class Epoch:
    """The S batches of an epoch of K models, of B places each.

    A place without an instance has weight 0 and names one of the model's own, so that nothing
    foreign is computed with.

    Attributes:
        rows: (K, S, B) int64, the instances.
        weights: (K, S, B) float64, what each adds to the mean loss of its batch.
    """

    rows: Tensor
    weights: Tensor


def check(
    n: int,
    masks: Tensor,
    seeds: Sequence[int],
    batches: str,
    convention: str,
) -> None:
    """Raises ValueError where the arguments of `train_many` on n instances are not as it says."""
    fits = masks.dim() == 2 and masks.shape[1] == n
    if masks.dtype != torch.bool or not fits or not len(masks):
        raise ValueError(
            f"masks must be (K, {n}) bool with K >= 1, got {tuple(masks.shape)} {masks.dtype}"
        )
    if len(seeds) != len(masks):
        raise ValueError(f"seeds must be one per model, {len(masks)}, got {len(seeds)}")
    check_choice("batches", batches, get_args(Batches))
    check_choice("convention", convention, get_args(Convention))


def epochs(
    masks: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    batches: Batches,
    convention: Convention,
) -> Iterator[Epoch]:
    """Yields the batches of each epoch of K models, where the masks lie.

    Args:
        masks: (K, n) bool, no row empty; with "own" the sizes must need the same number of steps.
        recipe: gives batch size and number of epochs.
        seeds: K ints.
        batches: "own" or "full", see `train_many`.
        convention: the divisor, see `train_many`.
    """
    K, n = masks.shape
    sizes = [n] * K
    if batches == "own":
        sizes = masks.sum(1).tolist()
    steps = epoch_steps(max(sizes), recipe)
    width = min(recipe.batch_size, max(sizes))
    filler = masks.to(torch.uint8).argmax(1)[
        :, None
    ]  # the first instance of each model
    orders = _orders(masks.cpu(), sizes, seeds, batches, steps * width)
    for drawn in islice(orders, recipe.epochs):
        order = drawn.to(masks.device)
        there = order >= 0
        present = there & masks.gather(1, order.clamp(min=0))
        rows = torch.where(present, order, filler)
        rows = rows.view(K, steps, width)
        counted = present
        if convention == "A":
            counted = there
        divisor = counted.view(K, steps, width).sum(2, keepdim=True)
        weights = present.view(K, steps, width).to(torch.float64)
        yield Epoch(rows, weights / divisor.clamp(min=1))


def _orders(
    masks: Tensor,
    sizes: Sequence[int],
    seeds: Sequence[int],
    batches: Batches,
    places: int,
) -> Iterator[Tensor]:
    """Yields the order of the instances in each epoch, (K, places) int64, -1 pads, without end."""
    own = [mask.nonzero().squeeze(1) for mask in masks]
    # models of equal seeds and sizes share their order, which is drawn once
    keys = list(zip(sizes, seeds, strict=True))
    draws = {(size, seed): permutations(size, seed) for size, seed in keys}
    while True:
        drawn = {key: next(draw) for key, draw in draws.items()}
        order = torch.full((len(masks), places), -1, dtype=torch.int64)
        for k, key in enumerate(keys):
            permutation = drawn[key]
            if batches == "own":
                permutation = own[k][permutation]
            order[k, : sizes[k]] = permutation
        yield order


def present_rows(
    masks: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    batches: Batches,
) -> Iterator[Tensor]:
    """Yields how many of its own instances each batch of each model holds, (T,) int64."""
    for mask, seed in zip(masks, seeds, strict=True):
        if bool(mask.any()):
            counts = []
            for epoch in epochs(mask[None], recipe, [seed], batches, "B"):
                present = epoch.weights[0] > 0
                counts.append(present.sum(1))
            yield torch.cat(counts)


def inputs_of(data: Dataset, features: Tensor) -> Dataset:
    """Returns what the trained part works on: the frozen features, or the instances themselves."""
    same = features.shape == data.x.shape and features.dtype == data.x.dtype
    if same:
        return data.rows(features, data.y)
    return Dataset(features, data.y, data.classes)
