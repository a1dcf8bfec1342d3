"""Target-driven mitigation (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055): remove what suspicious predictions rest on, retrain.

Needs: influence, and a detector's flags on the probe.

Cost: a training run and the influence on the points that still have the suspicious label, a round.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.tails import SCALES, Scale, standardised
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import note


@dataclass(frozen=True)
class TargetDriven:
    """Removes training rows of extreme influence on the flagged points until these leave the suspicious label.

    In every round the influence on the flagged points that the victim still gives the suspicious label is averaged, standardised
    robustly among the rows of that label (as in FIT), and rows above the cutoff are removed (algorithm 2). Where no row is above,
    the cutoff is lowered. Averaging over several points and renormalised influence (GAS) keep clean rows out of it.

    Attributes:
        cutoff: of the standardised influence.
        lower: factor on the cutoff when no row is above it; at 1 that is the end.
        rounds: retrainings, at most.
        stay: share of the flagged points that may keep the suspicious label in the end: a detector flags clean points, too.
        least: flagged points of a label that make it suspicious. With fewer, nothing is done.
        most: share of the label's rows that may be removed in all.
        scale: "qn" or "mad".

    Raises:
        ValueError: a value out of its range, or no flags or influence to work on.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "detector")

    cutoff: float = 2.5
    lower: float = 0.9
    rounds: int = 10
    stay: float = 0.1
    least: int = 3
    most: float = 0.5
    scale: Scale = "qn"

    def __post_init__(self) -> None:
        if self.cutoff <= 0:
            raise ValueError(f"cutoff must be positive, got {self.cutoff}")
        for name in ("lower", "most"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value}")
        if not 0 <= self.stay < 1:
            raise ValueError(f"stay must lie in [0, 1), got {self.stay}")
        for name in ("rounds", "least"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.scale not in SCALES:
            raise ValueError(
                f"scale must be one of {', '.join(map(repr, SCALES))}, got {self.scale!r}"
            )

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the victim without the rows found; the old one where no label is suspicious or no row stands out."""
        train, cutoff = evidence.trace.train, self.cutoff
        done = Mitigated(torch.ones_like(train.y, dtype=torch.bool), evidence.trace, 0)
        points = self._suspicious(evidence, means)
        staying = points
        while len(staying) > self.stay * len(points) and done.retrainings < self.rounds:
            heights = self._heights(done, staying, means)
            while self.lower < 1 and heights.max() > 0 and not bool((heights > cutoff).any()):
                cutoff *= self.lower
            keep = done.keep & (heights <= cutoff)
            if bool((keep == done.keep).all()):
                break
            if int((~keep).sum()) > self.most * int((train.y == points.y[0]).sum()):
                warnings.warn(
                    f"more than {self.most:g} of label {int(points.y[0])} stands out: no more is removed",
                    stacklevel=2,
                )
                break
            done = Mitigated(keep, means.retrain(keep), done.retrainings + 1)
            staying = points.take(predict(done.trace.model(), points.x).argmax(1) == points.y)
        note("suspicious_points", len(points))
        note("staying_points", len(staying))
        return done

    def _suspicious(self, evidence: Evidence, means: Means) -> Dataset:
        """Returns the flagged points of the label that has most of them, if these are enough."""
        if means.flags is None or means.influence is None:
            raise ValueError(
                "target-driven works on a detector's flags (m,) and an estimator's influence, got None"
            )
        flagged = evidence.test.take(means.flags)
        counts = flagged.y.bincount(minlength=flagged.classes)
        return flagged.take((flagged.y == counts.argmax()) & (counts.max() >= self.least))

    def _heights(self, done: Mitigated, points: Dataset, means: Means) -> Tensor:
        """Returns the standardised mean influence on `points` of every row, (n,); -inf for other labels and removed rows."""
        assert means.influence is not None
        influence = means.influence(done.trace, points).to(points.x).mean(0)
        own = done.trace.train.y == points.y[0]
        heights = influence.new_full(done.keep.shape, -torch.inf)
        heights[done.keep.nonzero().squeeze(1)[own]] = standardised(
            influence[own][None], SCALES[self.scale]
        )[0]
        return heights
