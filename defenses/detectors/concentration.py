"""Concentration of a point's positive influence on few rows: top mass, effective count, Gini.

The textbook measures of inequality (Herfindahl 1950; Gini 1912), as what "rests on few instances"
could mean at first sight.

Needs: influence.

Cost: O(m n log n).
"""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence
from defenses.kit.scope import in_scope
from poisonbench.checks import check_at_least
from poisonbench.contracts.scope import Scope, check_scope
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

    scope: Scope = "label"

    def __post_init__(self) -> None:
        check_scope(self.scope)

    @property
    def reads(self) -> Scope:
        """Of which training rows it reads the influence."""
        return self.scope

    @abstractmethod
    def of(self, mass: Tensor) -> Tensor:
        """Returns the statistic of each row of mass (r, n) >= 0, every sum above 0, (r,)."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = more concentrated.

        NaN where an influence is not finite or none of them is positive.
        """
        influence, sound = sound_influence(evidence, self.scope)
        scores = influence.new_full((len(influence),), torch.nan)
        points = sound.nonzero().squeeze(1)
        parts = in_scope(
            values=influence,
            points=points,
            labels=evidence.test.y[points],
            train_labels=evidence.trace.train.y,
            scope=self.scope,
        )
        for places, rows in parts:
            scores[points[places]] = self._of_points(rows)
        return scores

    def _of_points(self, rows: Tensor) -> Tensor:
        """Returns the statistic of each row of influences (r, n), (r,); NaN without a positive.

        Works in `rows`.
        """
        mass = rows.clamp_(min=0)
        found = mass.new_full((len(mass),), torch.nan)
        held = (mass > 0).any(1)
        lost = int((~held).sum())
        if lost:
            warnings.warn(
                f"{lost} probe points have no positive influence: no score",
                stacklevel=3,
            )
        if bool(held.any()):
            if lost:
                mass = mass[held]
            largest = mass.amax(1, keepdim=True)
            found[held] = self.of(mass.div_(largest))
        return found


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
        k = min(self.k, mass.shape[1])
        largest = mass.topk(k).values
        return largest.sum(1) / mass.sum(1)


@dataclass(frozen=True)
class EffectiveCount(_Concentration):
    """Minus (sum v)^2 / sum v^2: minus the rows that would hold the influence in equal shares."""

    def of(self, mass: Tensor) -> Tensor:
        """Returns values in [-n, -1]."""
        total = mass.sum(1)
        squares = mass.square().sum(1)
        return -total.square() / squares


@dataclass(frozen=True)
class Gini(_Concentration):
    """The Gini coefficient: 0 where all rows share equally, near 1 where one has it all."""

    def of(self, mass: Tensor) -> Tensor:
        """Returns values in [0, 1)."""
        n = mass.shape[1]
        rank = torch.arange(1, n + 1, device=mass.device, dtype=mass.dtype)
        weights = 2 * rank - n - 1
        weighted = mass.sort(1).values @ weights
        return weighted / (n * mass.sum(1))
