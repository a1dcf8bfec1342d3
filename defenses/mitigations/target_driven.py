"""Target-driven mitigation: remove what suspicious predictions rest on, and retrain.

Source: Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055.

Needs: influence, and a detector's flags on the probe.

Cost: a training run and the influence on the points that still have the suspicious label, a round.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.scale import Scale, check_scale
from defenses.kit.tails import standardised
from defenses.kit.verdict import flagged_points, influence_by, kept_label
from poisonbench.checks import check_at_least, check_part, check_positive, check_share
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.notes import note


@dataclass(frozen=True)
class TargetDriven:
    """Removes rows of extreme influence on the flagged points until these leave the label.

    In every round the influence on the flagged points that the victim still gives the suspicious
    label is averaged, standardised robustly among the rows of that label (as in FIT), and rows
    above the cutoff are removed (algorithm 2). Where no row is above, the cutoff is lowered.
    Averaging over several points and renormalised influence (GAS) keep clean rows out of it.

    Attributes:
        cutoff: of the standardised influence.
        lower: factor on the cutoff when no row is above it; at 1 that is the end.
        rounds: retrainings, at most.
        stay: share of the flagged points that may keep the suspicious label in the end: a detector
            flags clean points, too.
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
        check_positive("cutoff", self.cutoff)
        check_part("lower", self.lower)
        check_part("most", self.most)
        check_share("stay", self.stay)
        check_at_least("rounds", self.rounds, 1)
        check_at_least("least", self.least, 1)
        check_scale(self.scale)

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the victim without the rows found.

        That is the old one where no label is suspicious or no row stands out.
        """
        points = self._suspicious(flagged_points("target-driven", evidence, means))
        train = evidence.trace.train
        everything = torch.ones_like(train.y, dtype=torch.bool)
        done = Mitigated(everything, evidence.trace, 0)
        staying = points
        cutoff = self.cutoff
        may_stay = self.stay * len(points)
        while len(staying) > may_stay and done.retrainings < self.rounds:
            heights = self._heights(done, staying, means)
            cutoff = self._lowered(cutoff, heights)
            keep = done.keep & (heights <= cutoff)
            if torch.equal(keep, done.keep):
                break
            if self._too_many(keep, train, points):
                break
            trace = means.retrain(keep)
            done = Mitigated(keep, trace, done.retrainings + 1)
            stays = kept_label(trace, points)
            staying = points.take(stays)
        note("suspicious_points", len(points))
        note("staying_points", len(staying))
        return done

    def _suspicious(self, flagged: Dataset) -> Dataset:
        """Returns the flagged points of the label that has most of them, if these are enough."""
        counts = flagged.y.bincount(minlength=flagged.classes)
        enough = counts.max() >= self.least
        most_flagged = flagged.y == counts.argmax()
        return flagged.take(most_flagged & enough)

    def _heights(self, done: Mitigated, points: Dataset, means: Means) -> Tensor:
        """Returns the standardised mean influence on `points` of every row, (n,).

        -inf for rows of other labels, for those removed, and where no point has finite influence or
        the label has fewer than two rows: none stands out.
        """
        influence = influence_by(means, done.trace, points)
        heights = influence.new_full(done.keep.shape, -torch.inf)
        sound = influence.isfinite().all(1)
        own = done.trace.train.y == points.y[0]
        if not bool(sound.any()) or int(own.sum()) < 2:
            return heights
        mean = influence[sound].mean(0)
        rows = done.keep.nonzero().squeeze(1)[own]
        among_own = mean[own][None]
        heights[rows] = standardised(among_own, self.scale)[0]
        return heights

    def _lowered(self, cutoff: float, heights: Tensor) -> float:
        """Returns the cutoff, lowered until a row is above it, if any can be."""
        highest = heights.max()
        if self.lower == 1 or not bool(highest > 0):
            return cutoff
        while not bool(highest > cutoff):
            cutoff *= self.lower
        return cutoff

    def _too_many(self, keep: Tensor, train: Dataset, points: Dataset) -> bool:
        """Returns whether more rows than allowed would go; warns of it."""
        label = points.y[0]
        of_label = int((train.y == label).sum())
        removed = int((~keep).sum())
        if removed <= self.most * of_label:
            return False
        warnings.warn(
            f"more than {self.most:g} of label {int(label)} stands out: no more is removed",
            stacklevel=3,
        )
        return True
