"""Influence on suspicious predictions: the training rows that the most suspicious points rest on.

After the target-driven mitigation of Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055.

Needs: influence, a probe in which some points are attacked, and what the inner detector reads:
points known to be clean.

Cost: that of the inner detector, and O(m n log n).
"""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from defenses.detectors.rehearsed import Rehearsed
from defenses.detectors.support_without_the_few import SupportWithoutTheFew
from defenses.detectors.tail_heaviness import TailHeaviness
from defenses.kit.blocks import in_blocks
from defenses.kit.evidence import trusted_points
from defenses.kit.tails import standardised
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence

INNER: dict[str, Detector] = {
    "tail-heaviness": TailHeaviness(3),
    "support-without-the-few": SupportWithoutTheFew(),
    "rehearsed": Rehearsed(rehearsals=0),
}


@dataclass(frozen=True)
class InfluenceRank:
    """Mean of a row's robustly standardised influences on the points that a detector suspects most.

    Points are asked that are more suspicious than all that are known to be clean. A row counts for
    those that are predicted as its own label, and 0 for the others.

    Attributes:
        detector: which chooses the probe points, with its default hyperparameters (tail-heaviness:
            k = 3; rehearsed: by the weights that the package brings).
        points: how many it asks at the most; one where none is suspicious. Those that tie for the
            last places share them.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    detector: Literal["tail-heaviness", "support-without-the-few", "rehearsed"] = (
        "rehearsed"
    )
    points: int = 20

    def __post_init__(self) -> None:
        check_at_least("points", self.points, 1)
        check_choice("detector", self.detector, INNER)

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        inner = INNER[self.detector].uses
        return tuple(dict.fromkeys((*inner, "probe", "reference")))

    @property
    def least_trusted(self) -> int:
        """How many points known to be clean it must be given: as the inner detector."""
        least: int = getattr(INNER[self.detector], "least_trusted", 1)
        return least

    @property
    def unit(self) -> bool:
        """Whether the inner detector takes pictures in [0, 1] alone."""
        return bool(getattr(INNER[self.detector], "unit", False))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,); all NaN, with a warning, where no probe point has a score.

        An influence is standardised among those of its point that are finite.
        """
        scores = INNER[self.detector](evidence)  # warns of influence that is not finite
        influence = evidence.influence
        assert influence is not None  # or it would have raised
        trusted = trusted_points(evidence, self.least_trusted)
        ranked = scores.masked_fill(~scores.isfinite(), -torch.inf)
        usual = ranked[trusted].max()
        ranked = ranked.index_fill(0, trusted, -torch.inf)
        if not ranked.isfinite().any():
            others = len(scores) - len(trusted)
            told = f"{self.detector} scores none of the {others} points to be asked"
            warnings.warn(f"{told}: no score", stacklevel=2)
            n = influence.shape[1]
            return influence.new_full((n,), torch.nan)
        beyond = int((ranked > usual).sum())
        count = min(self.points, max(1, beyond))
        weight = chosen(ranked, count)
        suspects = weight.nonzero().squeeze(1)
        total = torch.zeros_like(influence[0])
        for part in in_blocks(suspects, len(total)):
            asked = evidence.test.y[part].unsqueeze(1)
            supports = evidence.trace.train.y == asked
            standing = _standing(influence[part]).masked_fill(~supports, 0)
            total += weight[part].to(total) @ standing
        return total / count


def chosen(scores: Tensor, count: int) -> Tensor:
    """Returns with what weight each point is among the `count` highest, (m,) float64 in [0, 1].

    Points that tie for the last places share them: which of them lies first tells something in a
    probe that begins with the attacked points.

    Args:
        scores: (m,), without NaN.
        count: at least 1, at most m.
    """
    last = scores.topk(count).values[-1]
    above = scores > last
    tied = scores == last
    places = count - above.sum()
    return above.double() + tied.double() * places / tied.sum()


def _standing(influence: Tensor) -> Tensor:
    """Returns influences (k, n), each standardised among those of its point that are finite."""
    if bool(influence.isfinite().all()):
        return standardised(influence, "mad")
    standing = torch.full_like(influence, torch.nan)
    for its, values in zip(standing, influence, strict=True):
        there = values.isfinite()
        if there.any():
            its[there] = standardised(values[there].unsqueeze(0), "mad")[0]
    return standing
