"""Influence on suspicious predictions: the training rows that the most suspicious probe points rest on.

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
from defenses.kit.scale import mad
from defenses.kit.tails import standardised
from poisonbench.checks import check_at_least
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence

INNER: dict[str, Detector] = {
    "tail-heaviness": TailHeaviness(3),
    "support-without-the-few": SupportWithoutTheFew(),
}


@dataclass(frozen=True)
class InfluenceRank:
    """Mean of a row's robustly standardised influences on the probe points that a detector finds most suspicious.

    Attributes:
        detector: which chooses the probe points, with its default hyperparameters (tail-heaviness: k = 3).
        points: how many, at most those that there are.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    detector: Literal["tail-heaviness", "support-without-the-few"] = "support-without-the-few"
    points: int = 20

    def __post_init__(self) -> None:
        check_at_least("points", self.points, 1)
        if self.detector not in INNER:
            raise ValueError(
                f"detector must be one of {', '.join(map(repr, INNER))}, got {self.detector!r}"
            )

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        return tuple(dict.fromkeys((*INNER[self.detector].uses, "probe")))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,); NaN, with a warning, where no probe point has a score."""
        scores = INNER[self.detector](evidence)  # warns of influence that is not finite
        influence = evidence.influence
        assert influence is not None  # or it would have raised
        scored = scores.isfinite()
        if not bool(scored.any()):
            warnings.warn(
                f"{self.detector} scores none of the {len(scores)} probe points: no score",
                stacklevel=2,
            )
            return influence.new_full((influence.shape[1],), torch.nan)
        order = scores.masked_fill(~scored, -torch.inf).argsort(descending=True, stable=True)
        return standardised(influence[order[: min(self.points, int(scored.sum()))]], mad).mean(0)
