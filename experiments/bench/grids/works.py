"""A detector whose cost is known: it keeps a processor busy for so many seconds."""

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class Works:
    """Multiplies matrices; its scores say nothing.

    Attributes:
        seconds: of processor time, whatever else the machine does.
        number: tells equal ones apart.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    seconds: float = 1.0
    number: int = 0

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns zeros, (m,), after that time."""
        end = time.thread_time() + self.seconds
        x = torch.full((64, 64), 1 / 64)
        while time.thread_time() < end:
            x = x @ x
        return torch.zeros(len(evidence.test), dtype=torch.float64)
