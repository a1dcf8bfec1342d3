"""Concentration of a point's positive influence on few training rows: share of the top k, effective count, Gini coefficient.

The textbook measures of inequality (Herfindahl 1950; Gini 1912), as what "rests on few instances" could mean at first sight.

Needs: influence.

Cost: O(m n log n).
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class _Concentration(ABC):
    """A statistic of the positive influences of a probe point.

    Attributes:
        scope: "label": of the training rows whose label is the predicted one; "all": of every row.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence",)

    scope: Literal["label", "all"] = "label"

    def __post_init__(self) -> None:
        if self.scope not in ("label", "all"):
            raise ValueError(f"scope must be 'label' or 'all', got {self.scope!r}")

    @abstractmethod
    def of(self, mass: Tensor) -> Tensor:
        """Returns the statistic of each row of mass (r, n) >= 0, every sum above 0, (r,)."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = more concentrated; NaN where an influence is not finite or none of them is positive."""
        influence, sound = sound_influence(evidence)
        scores = influence.new_full((len(influence),), torch.nan)
        labels, train_labels = evidence.test.y, evidence.trace.train.y
        for label in labels.unique():
            points = sound & (labels == label)
            rows = (
                influence[points]
                if self.scope == "all"
                else influence[points][:, train_labels == label]
            )
            mass = rows.clamp(min=0)
            largest = mass.amax(1) if mass.shape[1] else mass.new_zeros(len(mass))
            held = largest > 0
            if not bool(held.all()):
                warnings.warn(
                    f"{int((~held).sum())} probe points have no positive influence: no score",
                    stacklevel=2,
                )
            scores[points.nonzero().squeeze(1)[held]] = self.of(mass[held] / largest[held, None])
        return scores


@dataclass(frozen=True)
class TopMass(_Concentration):
    """Share of the positive influence that the k largest hold.

    Attributes:
        k: how many, all that there are if those are fewer.
    """

    k: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("k", self.k, 1)

    def of(self, mass: Tensor) -> Tensor:
        """Returns values in (0, 1]."""
        return mass.topk(min(self.k, mass.shape[1])).values.sum(1) / mass.sum(1)


@dataclass(frozen=True)
class EffectiveCount(_Concentration):
    """Minus (sum v)^2 / sum v^2: minus the number of rows that would hold the influence if they shared it equally."""

    def of(self, mass: Tensor) -> Tensor:
        """Returns values in [-n, -1]."""
        return -mass.sum(1).square() / mass.square().sum(1)


@dataclass(frozen=True)
class Gini(_Concentration):
    """The Gini coefficient: 0 where all rows share the influence equally, near 1 where one has it all."""

    def of(self, mass: Tensor) -> Tensor:
        """Returns values in [0, 1)."""
        n = mass.shape[1]
        weights = 2 * torch.arange(1, n + 1, device=mass.device, dtype=mass.dtype) - n - 1
        return mass.sort(1).values @ weights / (n * mass.sum(1))
