"""Filter and retrain: the rows that a filter finds most suspicious are taken out.

The removal step of spectral signatures (Tran, Li & Madry, NeurIPS 2018, arXiv 1811.00636), with any
filter.

Needs: a filter's scores of the training rows.

Cost: one training run.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch

from defenses.kit.evidence import check_rows
from poisonbench.checks import check_fraction
from poisonbench.contracts.values import Evidence, Means, Mitigated


@dataclass(frozen=True)
class FilterRetrain:
    """Removes the top `fraction` of the rows by score, ties by position, and retrains.

    Attributes:
        fraction: of the training rows, rounded, at least one. The paper removes 1.5 times the
            poison rows expected.

    Raises:
        ValueError: a fraction outside (0, 1), or no filter's scores.
    """

    uses: ClassVar[tuple[str, ...]] = ("filter",)

    fraction: float = 0.05

    def __post_init__(self) -> None:
        check_fraction("fraction", self.fraction)

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the victim without the top rows; never of these: scores that are not finite."""
        check_rows(evidence)
        scores = means.scores
        if scores is None:
            raise ValueError("filter-retrain works on a filter's scores (n,), got None")
        n = len(scores)
        finite = scores.isfinite()
        sound = int(finite.sum())
        if sound < n:
            warnings.warn(
                f"{n - sound} of {n} rows have a score that is not finite: they stay",
                stacklevel=2,
            )
        wanted = max(1, round(self.fraction * n))
        count = min(wanted, sound, n - 1)
        ranked = scores.masked_fill(~finite, -torch.inf)
        order = ranked.argsort(descending=True, stable=True)
        keep = torch.ones_like(finite)
        keep[order[:count]] = False
        return Mitigated(keep, means.retrain(keep), 1)
