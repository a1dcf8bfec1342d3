"""Filters and mitigations outside the tree, named `toy_defense:...` in a grid.

Among them those that misbehave.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from poisonbench.contracts.values import Evidence, Means, Mitigated


@dataclass(frozen=True)
class ByLabel:
    uses: ClassVar[tuple[str, ...]] = ()
    label: int = 0

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.role is None, (
            "the ground truth reached a filter that does not declare it"
        )
        return (evidence.trace.train.y == self.label).double()


@dataclass(frozen=True)
class ByTruth:
    uses: ClassVar[tuple[str, ...]] = ("oracle",)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.role is not None
        return (evidence.role == 1).double()


@dataclass(frozen=True)
class ByInfluence:
    uses: ClassVar[tuple[str, ...]] = ("influence",)

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.influence is not None
        return evidence.influence.sum(0)


@dataclass(frozen=True)
class Raises(ByLabel):
    def __call__(self, evidence: Evidence) -> torch.Tensor:
        raise RuntimeError("this filter always breaks")


@dataclass(frozen=True)
class Short(ByLabel):
    def __call__(self, evidence: Evidence) -> torch.Tensor:
        return torch.zeros(3)


@dataclass(frozen=True)
class KeepsAll:
    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        assert evidence.role is None
        assert evidence.influence is None
        return Mitigated(
            torch.ones(len(evidence.trace.train), dtype=torch.bool), evidence.trace, 0
        )


@dataclass(frozen=True)
class Lies(KeepsAll):
    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        return Mitigated(
            torch.zeros(len(evidence.trace.train), dtype=torch.bool), evidence.trace, 0
        )


@dataclass(frozen=True)
class RetrainsOnHalves(KeepsAll):
    """Four runs, and time to be killed between them."""

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        rows = torch.arange(len(evidence.trace.train))
        for part in range(4):
            keep = rows % 4 != part
            trace = means.retrain(keep)
        return Mitigated(keep, trace, 4)
