"""The bytes that a fitted scorer keeps, beyond the run that it was fitted to."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from poisonbench.training.trace import Trace


def held_bytes(scorer: Callable[..., Any], trace: Trace) -> int:
    """Returns the bytes of all tensors that are reached from a scorer and not from the run."""
    own = _storages(trace)
    found = _storages(scorer)
    return sum(size for place, size in found.items() if place not in own)


def _storages(root: object) -> dict[int, int]:
    """Returns address -> bytes of the memory behind every tensor that is reached from `root`."""
    found: dict[int, int] = {}
    seen: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one  # kept, so that no other object takes its number
        if isinstance(one, Tensor):
            storage = one.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            continue
        waiting += _inside(one)
    return found


def _inside(one: object) -> Iterator[object]:
    """Yields what an object holds; nothing of modules and classes, which belong to the program."""
    if isinstance(one, FunctionType):
        for cell in one.__closure__ or ():
            yield cell.cell_contents
    elif isinstance(one, MethodType):
        yield one.__self__
    elif isinstance(one, partial):
        yield one.func
        yield one.args
        yield one.keywords
    elif isinstance(one, nn.Module):
        yield from one.parameters()
        yield from one.buffers()
    elif isinstance(one, Mapping):
        yield from one.values()
    elif isinstance(one, list | tuple | set):
        yield from one
    elif hasattr(one, "__dict__") and not isinstance(one, type):
        yield one.__dict__
