"""Filters outside the tree, named `toy_defense:...` in a grid: one by label, one that raises, one of the wrong length."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from poisonbench.contracts import Evidence


@dataclass(frozen=True)
class ByLabel:
    uses: ClassVar[tuple[str, ...]] = ()
    label: int = 0

    def __call__(self, evidence: Evidence) -> torch.Tensor:
        assert evidence.role is None, "the ground truth reached a filter that does not declare it"
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
