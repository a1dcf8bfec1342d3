"""Blocks that fit a device's memory, and half of that when it was too much.

Blocks of gradients that are held, and of instances that are passed through a model at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from poisonbench.data import Dataset

R = TypeVar("R")


@dataclass(frozen=True)
class Budget:
    """What a device has room for.

    Attributes:
        memory: bytes for test gradients; more test points are done in blocks, each with its own
            pass over the training set.
        batch: training instances a pass, at most.
        gradients: bytes for the gradients of a pass; on a CPU what outgrows its cache is slower.
    """

    memory: int
    batch: int
    gradients: int = 8 << 30


CPU = Budget(1 << 30, 256, 32 << 20)
CUDA = Budget(8 << 30, 1024)
SMALLEST = 16  # instances a pass: below, the overhead of a call shows


def room(
    data: Dataset,
    size: int,
    budget: Budget | None = None,
    held: int | None = None,
) -> tuple[int, int]:
    """Returns how many vectors of `size` entries fit, and the instances of a pass.

    Args:
        data: gives the device and the dtype.
        size: entries of a vector.
        budget: None chooses by device.
        held: entries that an instance's gradient is held by in a pass; None: `size`.
    """
    if budget is None:
        budget = CUDA if data.x.is_cuda else CPU
    itemsize = data.dtype.itemsize
    in_pass = size if held is None else held
    fit = max(1, budget.memory // (size * itemsize))
    passed = max(SMALLEST, budget.gradients // (in_pass * itemsize))
    return fit, min(fit, budget.batch, passed)


def batches(
    data: Dataset,
    size: int,
) -> list[Dataset]:
    """Returns the instances in order, `size` at a time."""
    parts = zip(data.x.split(size), data.y.split(size), strict=True)
    return [data.rows(x, y) for x, y in parts]


def halving(
    run: Callable[[int], R],
    size: int,
) -> R:
    """Calls run(size), and with half the size whenever the device runs out of memory.

    Raises:
        torch.OutOfMemoryError: at size 1 there is still too little.
    """
    while True:
        try:
            return run(size)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()
        size = size // 2
