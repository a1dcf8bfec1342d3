"""The global state that no method may move: the generators of torch, numpy and random, and the default dtype."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = tuple[Tensor, torch.dtype, tuple[Any, ...], tuple[Any, ...]]


def global_state() -> State:
    """Returns a copy of it, for `restore`."""
    numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002 - the global generator is what is watched
    return torch.random.get_rng_state(), torch.get_default_dtype(), tuple(numpy_state), random.getstate()


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
