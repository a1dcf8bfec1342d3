"""Exclusive proponents: rows that hold up this prediction, and no trusted one of its label.

Poison serves the attacked points alone: the rows that a triggered point rests on are among the
first of no clean point. Influence names the rows (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055);
what they have in common with those of trusted points is the overlap of k nearest neighbours, by
which Papernot & McDaniel 2018, arXiv 1803.04765, ask whether a point conforms to its class.

Needs: influence, and probe points known to be clean.

Cost: O(m n log n); no gradient and no training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from defenses.kit.proponents import by_label, overlaps
from poisonbench.checks import check_at_least, check_unit
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class ExclusiveProponents:
    """1 minus the mean share of its proponents that a point has in common with a trusted one.

    With trusted points of its label, itself left out; with all where no other has the label.
    Proponents are the most influential rows of the label.

    Attributes:
        k: how many.
        share: of the rows of the label, to which k rises.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "reference")

    k: int = 10
    share: float = 0.1

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_unit("share", self.share)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1].

        NaN where an influence is not finite, or there is no other trusted point.

        Raises:
            ValueError: there is no trusted point.
        """
        check_points(evidence)
        scores = evidence.test.zeros(len(evidence.test)) + torch.nan
        for part in by_label(evidence):
            common = overlaps(
                values=part.values,
                others=part.trusted,
                k=self.k,
                share=self.share,
            )
            shared = part.mean(common)
            scores[part.points] = (1 - shared).to(scores.dtype)
        return scores
