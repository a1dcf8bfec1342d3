"""Uniform noise over the training rows: the floor of every table of filters.

Needs: nothing.

Cost: none.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from poisonbench.contracts.values import Evidence
from poisonbench.seeding import generator


@dataclass(frozen=True)
class RandomFilter:
    """Scores uniform in [0, 1), drawn anew for every training seed."""

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,)."""
        check_rows(evidence)
        train = evidence.trace.train
        g = generator(evidence.trace.seed, "random-filter")
        scores = torch.rand(len(train), generator=g, dtype=torch.float64)
        return scores.to(train.x.device, train.dtype)
