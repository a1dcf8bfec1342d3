"""An estimator that misbehaves: it moves the global state and returns its scores transposed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.notes import note
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


asked: list[range] = []  # the blocks of `ByRows`, in order
STOP = -1  # the row at whose block it stops


@dataclass(frozen=True)
class ByRows:
    """Scores a row by itself; it changes its trace at the block of a row."""

    changes_at: int = -1

    def fit(self, trace: Trace) -> Callable[[Dataset], Tensor]:
        raise AssertionError("it was to be asked for blocks")

    def fit_rows(self, trace: Trace) -> Callable[[Dataset, range], Tensor]:
        def score(test: Dataset, rows: range) -> Tensor:
            asked.append(rows)
            if STOP in rows:
                raise RuntimeError("stopped")
            if self.changes_at in rows:
                trace.train.x.zero_()
            note("last_row", rows[-1])
            part = trace.train.x[rows.start : rows.stop].flatten(1)
            return test.x.flatten(1) @ part.T

        return score
