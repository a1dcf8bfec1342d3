"""Which instances make each step of each of many models, and with which weight."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from poisonbench.training.recipe import Recipe, epoch_steps, permutations

Batches = Literal["own", "full"]
Convention = Literal["A", "B"]


def check(n: int, masks: Tensor, seeds: Sequence[int], batches: str, convention: str) -> None:
    """Raises ValueError where the arguments of `train_many` on n instances are not as it says."""
    if masks.dtype != torch.bool or masks.dim() != 2 or masks.shape[1] != n or not len(masks):
        raise ValueError(
            f"masks must be (K, {n}) bool with K >= 1, got {tuple(masks.shape)} {masks.dtype}"
        )
    if len(seeds) != len(masks):
        raise ValueError(f"seeds must be one a model, {len(masks)}, got {len(seeds)}")
    if batches not in get_args(Batches):
        raise ValueError(f"batches must be one of {', '.join(get_args(Batches))}, got {batches!r}")
    if convention not in get_args(Convention):
        raise ValueError(
            f"convention must be one of {', '.join(get_args(Convention))}, got {convention!r}"
        )


def epochs(
    masks: Tensor, recipe: Recipe, seeds: Sequence[int], batches: Batches, convention: Convention
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches of each epoch: rows (K, S, B) int64 and weights (K, S, B) float64, S steps an epoch.

    A place without an instance has weight 0 and names one of the model's own, so that nothing foreign is computed with.

    Args:
        masks: (K, n) bool, no row empty; with "own" the sizes must need the same number of steps.
        recipe: gives batch size and number of epochs.
        seeds: K ints.
        batches: "own" or "full", see `train_many`.
        convention: the divisor, see `train_many`.
    """
    K, n = masks.shape
    sizes = masks.sum(1).tolist() if batches == "own" else [n] * K
    own = [mask.nonzero().squeeze(1) for mask in masks] if batches == "own" else None
    filler = masks.to(torch.uint8).argmax(1)[:, None]
    keys = list(zip(sizes, seeds, strict=True))
    draws = {
        key: permutations(*key) for key in keys
    }  # equal seeds share their order, which is drawn once
    steps = epoch_steps(max(sizes), recipe)
    width = min(recipe.batch_size, max(sizes))
    for _ in range(recipe.epochs):
        drawn = {key: next(draw) for key, draw in draws.items()}
        order = torch.full((K, steps * width), -1, dtype=torch.int64)
        for k, (size, seed) in enumerate(keys):
            permutation = drawn[size, seed]
            order[k, :size] = permutation if own is None else own[k][permutation]
        there = order >= 0
        present = there & masks.gather(1, order.clamp(min=0))
        divisor = (
            (there if convention == "A" else present)
            .view(K, steps, width)
            .sum(2, keepdim=True)
            .clamp(min=1)
        )
        rows = torch.where(present, order, filler).view(K, steps, width)
        yield rows, present.view(K, steps, width).to(torch.float64) / divisor
