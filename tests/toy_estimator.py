"""An estimator that misbehaves: it moves the global state and returns its scores transposed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from poisonbench.data import Dataset
from poisonbench.training.trace import Trace


@dataclass(frozen=True)
class Transposed:
    def fit(self, trace: Trace) -> Callable[[Dataset], torch.Tensor]:
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        return lambda test: torch.zeros(len(trace.train), len(test))


@dataclass(frozen=True)
class Flat:
    """Every row helps alike; it knows no self-influence."""

    def fit(self, trace: Trace) -> Callable[[Dataset], torch.Tensor]:
        return lambda test: torch.ones(len(test), len(trace.train))
