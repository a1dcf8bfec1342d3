"""Independent random streams from one integer seed, and the global state that no method may move.

Streams come from `derive` and `generator`; the global generators stay untouched.
"""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Numpy = tuple[Any, ...]
Python = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class State:
    """Global state of a process that a method could move.

    Attributes:
        cpu: state of PyTorch's generator on the CPU.
        numpy: state of NumPy's global generator.
        python: state of Python's global generator.
        dtype: PyTorch's default dtype.
    """

    cpu: Tensor
    numpy: Numpy
    python: Python
    dtype: torch.dtype

    def same(self, other: "State") -> bool:
        """Whether both are the same state."""
        return (
            torch.equal(self.cpu, other.cpu)
            and self.dtype == other.dtype
            and _same_outside(self.numpy, self.python, other.numpy, other.python)
        )


def derive(seed: int, *stream: str | int) -> int:
    """Returns a seed in [0, 2^63) for the named stream of `seed`.

    It is the same on every machine, and unrelated across streams.
    """
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_global(seed: int, device: torch.device | None = None) -> None:
    """Seeds PyTorch's global generators of the CPU and of a CUDA device: fork them before.

    `torch.manual_seed` gives the same streams, but records a stack trace for every kind of device
    that is not there: at a few tenths of a millisecond that is a third of a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Returns a CPU generator for the named stream of `seed`: `generator(seed, "batches")`."""
    return torch.Generator().manual_seed(derive(seed, *stream))


@contextlib.contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds PyTorch's global generators for a block, in which layers draw, and puts them back."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed_global(seed, device)
        yield


class Outside:
    """Seeds the global generators of NumPy and Python, for models that draw from these.

    To save and put back NumPy's state costs a tenth of a small model's step. So the first block
    finds out whether anything is drawn there at all; if not, the later ones leave both alone.

    Attributes:
        drawn: whether a block drew from either; True until one has ended.
    """

    def __init__(self) -> None:
        self.drawn = True

    @contextlib.contextmanager
    def drawing(self, seed: int) -> Iterator[None]:
        """Seeds both generators for a block, and puts them back."""
        if not self.drawn:
            yield
            return
        numpy_before = _numpy_state()
        python_before = random.getstate()
        np.random.seed(seed % 2**32)  # noqa: NPY002 - models may draw from the global generator
        random.seed(seed)
        numpy_seeded = _numpy_state()
        python_seeded = random.getstate()
        try:
            yield
        finally:
            self.drawn = not _same_outside(
                numpy_seeded, python_seeded, _numpy_state(), random.getstate()
            )
            np.random.set_state(numpy_before)  # noqa: NPY002
            random.setstate(python_before)


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Deterministic convolutions without TF32 while it lasts; the settings found are put back."""
    with torch.backends.cudnn.flags(
        enabled=True,
        benchmark=False,
        deterministic=True,
        allow_tf32=False,
    ):
        yield


def _numpy_state() -> Numpy:
    return tuple(np.random.get_state(legacy=True))  # noqa: NPY002


def _same_outside(
    numpy_one: Numpy,
    python_one: Python,
    numpy_other: Numpy,
    python_other: Python,
) -> bool:
    if python_one != python_other:
        return False
    return all(
        np.array_equal(a, b) for a, b in zip(numpy_one, numpy_other, strict=True)
    )


def global_state() -> State:
    """Returns a copy of it, for `restore`."""
    return State(
        torch.random.get_rng_state(),
        _numpy_state(),
        random.getstate(),
        torch.get_default_dtype(),
    )


def restore(state: State) -> bool:
    """Puts the global generators and the default dtype back; returns whether they had moved."""
    same = global_state().same(state)
    torch.random.set_rng_state(state.cpu)
    torch.set_default_dtype(state.dtype)
    np.random.set_state(state.numpy)  # noqa: NPY002
    random.setstate(state.python)
    return not same
