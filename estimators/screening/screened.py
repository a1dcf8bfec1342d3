"""Screened GAS or TracIn: a point's most influential rows, without the gradients of the others.

Every product is estimated from random projections of the gradients (Pruthi et al., NeurIPS 2020,
arXiv 2002.08484, appendix F; `poisonbench.gradients.Sketch`); the rows that may be among the
largest are then computed as the estimator does.

Cost: `fit` K passes over the n instances, O(K n (p + d)); m points O(K m n d) for the estimates,
and the K gradients of the rows that remain, a few dozen a point. O(K n d) memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from estimators.gas import GAS
from estimators.kit.checkpoints import checkpoint_sum, tell_optimizer
from estimators.screening.screen import Screen, highest_of
from estimators.tracin import TracIn
from poisonbench.checks import check_at_least, check_choice, check_positive
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.device.precision import asking
from poisonbench.memory import batches
from poisonbench.notes import note
from poisonbench.training.trace import Trace, check_points, check_trace

Exact = Literal["gas", "tracin"]
FIRST = 2  # times `top`: rows of a point that are computed to find out how large the largest are
BLOCK = 1 << 25  # estimates at a time


@dataclass(frozen=True)
class Screened:
    """The scores of GAS or TracIn for the most influential rows of a point, NaN for the others.

    The rows whose estimate lies highest are computed first. The `top`-th largest of them is a bound
    from below on that of all rows: only rows whose estimate comes within `width` standard errors of
    it are computed, too. A row that is left out has a score below the bound unless its estimate is
    off by more than that; errors are nearly normal, so that 5 standard errors are exceeded once in
    some million pairs. That is no certainty: bounds that are certain (Cauchy-Schwarz on what is not
    computed) exclude few rows (`experiments/results/screening.md`).

    Attributes:
        of: whose scores: "gas" or "tracin" (at the checkpoints, weighed by their rates).
        top: rows of largest score that are to be found.
        dimensions: d, of the projection; the error of a cosine is 1 / sqrt(d).
        width: standard errors.
        most: rows of a point that are computed after the first, at most; those with the highest
            bounds. The log tells for which share of the points it sufficed.
        seed: of the projections.
        precision: "tf32": as of GAS and TracIn, for the estimates too.

    Raises:
        ValueError: a value out of its range.
    """

    needs: ClassVar[tuple[str, ...]] = ("checkpoints",)
    gives: ClassVar[str] = "top"

    of: Exact = "gas"
    top: int = 10
    dimensions: int = 2048
    width: float = 5.0
    most: int = 1000
    seed: int = 0
    precision: Literal["full", "tf32"] = field(
        default="full", metadata={"configured": "when changed"}
    )

    def __post_init__(self) -> None:
        check_choice("of", self.of, get_args(Exact))
        check_at_least("top", self.top, 1)
        check_at_least("dimensions", self.dimensions, 1)
        check_positive("width", self.width)
        check_at_least("most", self.most, 0)
        check_choice("precision", self.precision, ("full", "tf32"))

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), after projecting the training set."""
        check_trace(trace, self)
        if self.of == "tracin":
            tell_optimizer(trace)
        return self.scorer(trace, self.screen(trace))

    def scorer(self, trace: Trace, screen: Screen) -> Scorer:
        """Returns the scorer that reads these projected gradients."""

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            n = len(trace.train)
            if not len(test):
                return test.zeros(0, n)
            size = max(1, BLOCK // n)
            parts = batches(test, size)
            return _told([self._scored(trace, screen, part) for part in parts])

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), by the exact estimator."""
        return self.exact.self_influence(trace)

    @property
    def exact(self) -> GAS | TracIn:
        """The estimator whose scores these are."""
        if self.of == "gas":
            return GAS(precision=self.precision)
        return TracIn(precision=self.precision)

    def screen(self, trace: Trace) -> Screen:
        """Returns the projected gradients of the training set."""
        rates = [checkpoint.lr for checkpoint in trace.checkpoints]
        form = self.exact.form(trace)
        with asking(self.precision):
            return Screen.of(trace, form, rates, self.dimensions, self.seed)

    def _scored(self, trace: Trace, screen: Screen, test: Dataset) -> "_Found":
        """Returns the scores of m points."""
        n = len(trace.train)
        with asking(self.precision):
            highest = screen.bounds(test, n, self.width)
        least = min(self.top, n)
        first = min(FIRST * least, n)
        chosen = highest_of(highest, first)
        scores = self._computed(trace, test, chosen)
        known = scores.masked_fill(~chosen, -torch.inf)
        largest = known.topk(least).values
        bound = largest[:, -1:]
        within = highest >= bound
        within &= ~chosen
        ranked = highest.masked_fill(~within, -torch.inf)
        more = highest_of(ranked, min(self.most, n))
        more &= within
        others = self._computed(trace, test, more)
        return _Found(
            scores=torch.where(more, others, scores),
            rows=(chosen | more).sum(1),
            left=(within & ~more).sum(1),
        )

    def _computed(self, trace: Trace, test: Dataset, chosen: Tensor) -> Tensor:
        """Returns the scores where `chosen` (m, n), NaN elsewhere."""
        scores = test.zeros(*chosen.shape)
        scores.fill_(torch.nan)
        rows = chosen.any(0).nonzero().squeeze(1)
        points = chosen.any(1).nonzero().squeeze(1)
        if not len(rows):
            return scores
        scores[points[:, None], rows] = checkpoint_sum(
            trace=trace,
            test=test.take(points),
            form=self.exact.form(trace),
            rows=rows,
            precision=self.precision,
        )
        return scores.masked_fill(~chosen, torch.nan)


@dataclass(frozen=True, eq=False)
class _Found:
    """What is known of m points.

    Attributes:
        scores: (m, n), NaN where it was not computed.
        rows: (m,), how many were computed.
        left: (m,), how many rows might be among the largest and were not computed.
    """

    scores: Tensor
    rows: Tensor
    left: Tensor


def _told(parts: Sequence[_Found]) -> Tensor:
    """Returns the scores of all points; tells the log what they took."""
    rows = torch.cat([part.rows for part in parts])
    left = torch.cat([part.left for part in parts])
    complete = left == 0
    note("screened_rows", float(rows.double().mean()))
    note("screened_complete", float(complete.double().mean()))
    return torch.cat([part.scores for part in parts])
