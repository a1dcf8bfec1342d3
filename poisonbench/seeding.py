"""Independent random streams from one integer seed, and the global state that no method may move.

Streams come from `derive` and `generator`; the global generators stay untouched.
"""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = tuple[Tensor, torch.dtype, tuple[Any, ...], tuple[Any, ...]]


def derive(seed: int, *stream: str | int) -> int:
    """Returns a seed in [0, 2^63) for the named stream of `seed`: the same on every machine, unrelated across streams."""
    digest = hashlib.sha256(repr((seed, *stream)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_global(seed: int, device: torch.device | None = None) -> None:
    """Seeds PyTorch's global generators of the CPU and of a CUDA device, as layers draw from these: fork them before.

    `torch.manual_seed` gives the same streams, but records a stack trace for every kind of device that is not there: at a few
    tenths of a millisecond that is a third of a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def generator(seed: int, *stream: str | int) -> torch.Generator:
    """Returns a CPU generator for the named stream of `seed`, e.g. `generator(seed, "batches")`."""
    return torch.Generator().manual_seed(derive(seed, *stream))


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Deterministic convolutions without TF32 while it lasts; the settings found are put back."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def global_state() -> State:
    """Returns a copy of it, for `restore`."""
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator is what is watched
    return (
        torch.random.get_rng_state(),
        torch.get_default_dtype(),
        tuple(numpy_state),
        random.getstate(),
    )


def restore(state: State) -> bool:
    """Puts the global generators and the default dtype back; returns whether they had been moved."""
    now = global_state()
    same = torch.equal(now[0], state[0]) and now[1] == state[1] and now[3] == state[3]
    same = same and all(np.array_equal(a, b) for a, b in zip(now[2], state[2], strict=True))
    torch.random.set_rng_state(state[0])
    torch.set_default_dtype(state[1])
    np.random.set_state(state[2])  # noqa: NPY002
    random.setstate(state[3])
    return not same
