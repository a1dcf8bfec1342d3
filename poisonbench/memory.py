"""Blocks that fit a device's memory, and half of that when it was too much.

Blocks of gradients that are held, and of instances that are passed through a model at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.device.faults import is_out_of_memory

R = TypeVar("R")


@dataclass(frozen=True)
class Budget:
    """What a device has room for.

    Attributes:
        memory: bytes for test gradients; more test points are done in blocks, each with its own
            pass over the training set.
        batch: training instances a pass, at most.
        gradients: bytes for one layer's gradients of a pass, as passes drop a layer before the
            next; what is larger than 32 MiB a CPU's library takes from the system anew each time.
    """

    memory: int
    batch: int
    gradients: int = 8 << 30


CPU = Budget(1 << 30, 256, 32 << 20)
CUDA_BATCH = 4096  # fewer do not fill a GPU with a small model
CUDA_SHARE = 2  # of the free memory of a GPU one part in so many is for test gradients
CUDA_PASS = 4  # and of that one part in so many for the gradients of a pass
# (code of a function, size asked) -> the size that fitted, where a larger one did not
_fitted: dict[tuple[object, int], int] = {}
SMALLEST = 16  # instances a pass: below, the overhead of a call shows


def room(
    data: Dataset,
    size: int,
    budget: Budget | None = None,
    held: int | None = None,
    kind: torch.dtype | None = None,
) -> tuple[int, int]:
    """Returns how many vectors of `size` entries fit, and the instances of a pass.

    Args:
        data: gives the device and the dtype.
        size: entries of a vector.
        budget: None chooses by device.
        held: entries that an instance's gradient is held by in a pass; None: `size`.
        kind: of the entries; None: that of the data.
    """
    if budget is None:
        budget = budget_of(data.x.device)
    itemsize = (kind or data.dtype).itemsize
    in_pass = size if held is None else held
    fit = max(1, budget.memory // (size * itemsize))
    passed = max(SMALLEST, budget.gradients // (in_pass * itemsize))
    return fit, min(fit, budget.batch, passed)


def budget_of(device: torch.device) -> Budget:
    """Returns the budget of a device; that of a GPU is half of what is free, rounded down.

    To a power of two, or one and a half of it: small changes of what others use change no block.
    """
    if device.type != "cuda":
        return CPU
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    memory = _rounded_down((free + kept) // CUDA_SHARE)
    return Budget(memory, CUDA_BATCH, max(1, memory // CUDA_PASS))


def _rounded_down(size: int) -> int:
    """Returns the largest 2^k or 3 x 2^k that is not above `size`, at least 1."""
    power = 1 << max(0, size.bit_length() - 1)
    if power >= 2 and size >= power + power // 2:
        return power + power // 2
    return power


def batches(
    data: Dataset,
    size: int,
) -> list[Dataset]:
    """Returns the instances in order, `size` at a time."""
    parts = zip(data.x.split(size), data.y.split(size), strict=True)
    return [data.rows(x, y) for x, y in parts]


def in_parts(call: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Returns what a call gives of the instances x, (m, *shape), `size` of them at a time.

    The results are put where they belong as they come: joined later they would be held twice.
    """
    first, *others = x.split(size)
    result = call(first)
    if not others:
        return result
    found = result.new_empty(len(x), *result.shape[1:])
    found[: len(result)] = result
    start = len(result)
    for part in others:
        stop = start + len(part)
        found[start:stop] = call(part)
        start = stop
    return found


def halving(
    run: Callable[[int], R],
    size: int,
) -> R:
    """Calls run(size), and with half the size whenever the device runs out of memory.

    The size that fitted is where the next call of the same function for this size begins, until
    `forget_sizes`.

    Raises:
        RuntimeError: for which `is_out_of_memory` holds: at size 1 there is still too little.
    """
    key = (getattr(run, "__code__", None), size)
    size = _fitted.get(key, size)
    while True:
        try:
            found = run(size)
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        else:
            if size < key[1]:
                _fitted[key] = size
            return found
        torch.cuda.empty_cache()
        size = size // 2


def forget_sizes() -> None:
    """Forgets which sizes did not fit; what runs next depends on nothing that ran before."""
    _fitted.clear()
