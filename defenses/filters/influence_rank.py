"""Influence on suspicious predictions: the training rows that the most suspicious points rest on.

After the target-driven mitigation of Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055.

Needs: influence, and a probe in which some points are attacked.

Cost: that of the inner detector, and O(m n log n).
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from defenses.detectors.support_without_the_few import SupportWithoutTheFew
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.kit.tails import standardised
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence

INNER: dict[str, Detector] = {
    "tail-heaviness": TailHeaviness(3),
    "support-without-the-few": SupportWithoutTheFew(),
}


@dataclass(frozen=True)
class InfluenceRank:
    """Mean of a row's robustly standardised influences on the points that a detector suspects most.

    Attributes:
        detector: which chooses the probe points, with its default hyperparameters (tail-heaviness:
            k = 3).
        points: how many, at most those that there are.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    detector: Literal["tail-heaviness", "support-without-the-few"] = (
        "support-without-the-few"
    )
    points: int = 20

    def __post_init__(self) -> None:
        check_at_least("points", self.points, 1)
        check_choice("detector", self.detector, INNER)

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        inner = INNER[self.detector].uses
        return tuple(dict.fromkeys((*inner, "probe")))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,); NaN, with a warning, where no probe point has a score."""
        scores = INNER[self.detector](evidence)  # warns of influence that is not finite
        influence = evidence.influence
        assert influence is not None  # or it would have raised
        scored = scores.isfinite()
        count = min(self.points, int(scored.sum()))
        if not count:
            warnings.warn(
                f"{self.detector} scores none of the {len(scores)} probe points: no score",
                stacklevel=2,
            )
            n = influence.shape[1]
            return influence.new_full((n,), torch.nan)
        ranked = scores.masked_fill(~scored, -torch.inf)
        order = ranked.argsort(descending=True, stable=True)
        suspects = influence[order[:count]]
        return standardised(suspects, "mad").mean(0)
