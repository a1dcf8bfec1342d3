"""Filter and retrain: the training rows that a filter finds most suspicious are taken out, and the victim is trained again.

The removal step of spectral signatures (Tran, Li & Madry, NeurIPS 2018, arXiv 1811.00636), with any filter.

Needs: a filter's scores of the training rows.

Cost: one training run.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch

from poisonbench.contracts.values import Evidence, Means, Mitigated


@dataclass(frozen=True)
class FilterRetrain:
    """Removes the top `fraction` of the rows by score, ties by position, and retrains on the others.

    Attributes:
        fraction: of the training rows, rounded, at least one. The paper removes 1.5 times the poison rows expected.

    Raises:
        ValueError: a fraction outside (0, 1), or no filter's scores.
    """

    uses: ClassVar[tuple[str, ...]] = ("filter",)

    fraction: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must lie in (0, 1), got {self.fraction}")

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:  # noqa: ARG002
        """Returns the victim without the top rows; scores that are not finite are never among these."""
        scores = means.scores
        if scores is None:
            raise ValueError("filter-retrain works on a filter's scores (n,), got None")
        finite = scores.isfinite()
        if bad := int((~finite).sum()):
            warnings.warn(
                f"{bad} of {len(scores)} rows have a score that is not finite: they stay",
                stacklevel=2,
            )
        count = min(max(1, round(self.fraction * len(scores))), int(finite.sum()), len(scores) - 1)
        keep = torch.ones_like(finite)
        keep[
            scores.masked_fill(~finite, -torch.inf).argsort(descending=True, stable=True)[:count]
        ] = False
        return Mitigated(keep, means.retrain(keep), 1)
