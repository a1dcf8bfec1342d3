"""Independent random streams from one integer seed, and the global state that no method may move.

Streams come from `derive` and `generator`; the global generators stay untouched.
"""

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poisonbench.device.context import prepare_gradients
from poisonbench.device.precision import full_precision

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
        grad: whether PyTorch records gradients.
        threads: of PyTorch's operations on the CPU.
        folder: the working directory; "" if it is gone.
        environment: variables of the process.
    """

    cpu: Tensor
    numpy: Numpy
    python: Python
    dtype: torch.dtype
    grad: bool
    threads: int
    folder: str
    environment: Mapping[str, str]

    def moved(self, other: "State") -> tuple[str, ...]:
        """Names what of this state is different in a later one.

        A variable that is new in the environment is no move: libraries set some when they are
        imported.
        """
        kept = {name: other.environment.get(name) for name in self.environment}
        same = {
            "torch's generator": torch.equal(self.cpu, other.cpu),
            "NumPy's generator": _same_numpy(self.numpy, other.numpy),
            "Python's generator": self.python == other.python,
            "torch's default dtype": self.dtype == other.dtype,
            "torch's gradient mode": self.grad == other.grad,
            "torch's number of threads": self.threads == other.threads,
            "the working directory": self.folder == other.folder,
            "the environment": kept == self.environment,
        }
        return tuple(name for name, unmoved in same.items() if not unmoved)


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
            unmoved = random.getstate() == python_seeded
            self.drawn = not (unmoved and _same_numpy(_numpy_state(), numpy_seeded))
            np.random.set_state(numpy_before)  # noqa: NPY002
            random.setstate(python_before)


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Deterministic, in full float32 (no TF32), while it lasts; what was set is put back."""
    prepare_gradients()
    cudnn = torch.backends.cudnn
    enabled = cudnn.enabled
    benchmark = cudnn.benchmark
    deterministic = cudnn.deterministic
    cudnn.enabled = True
    cudnn.benchmark = False
    cudnn.deterministic = True
    try:
        with full_precision():
            yield
    finally:
        cudnn.enabled = enabled
        cudnn.benchmark = benchmark
        cudnn.deterministic = deterministic


def _numpy_state() -> Numpy:
    return tuple(np.random.get_state(legacy=True))  # noqa: NPY002


def _same_numpy(one: Numpy, other: Numpy) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - no Path: it is given back as it is
    except FileNotFoundError:
        return ""


def global_state() -> State:
    """Returns a copy of it, for `restore`."""
    return State(
        cpu=torch.random.get_rng_state(),
        numpy=_numpy_state(),
        python=random.getstate(),
        dtype=torch.get_default_dtype(),
        grad=torch.is_grad_enabled(),
        threads=torch.get_num_threads(),
        folder=_working_directory(),
        environment=dict(os.environ),
    )


def restore(state: State) -> tuple[str, ...]:
    """Puts the global state back; returns the names of what had moved, see `State.moved`."""
    moved = state.moved(global_state())
    torch.random.set_rng_state(state.cpu)
    torch.set_default_dtype(state.dtype)
    torch.set_grad_enabled(state.grad)
    np.random.set_state(state.numpy)  # noqa: NPY002
    random.setstate(state.python)
    if torch.get_num_threads() != state.threads:
        torch.set_num_threads(state.threads)
    if state.folder:
        with contextlib.suppress(OSError):
            os.chdir(state.folder)
    _restore_environment(state.environment)
    return moved


def _restore_environment(kept: Mapping[str, str]) -> None:
    """Gives the variables that were there their values; those that are new stay."""
    for name, value in kept.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
