"""Leave-one-out retraining (Cook & Weisberg 1982): what a test point gains from an instance.

Found by training without it.

Cost: O(n T) steps for each repeat, O(n p) memory or disk; a new test point O(n p), without
retraining.
"""

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure, smaller_kept
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.notes import attach, note
from poisonbench.objectives import Measure
from poisonbench.seeding import derive
from poisonbench.training import Ensemble, train_many
from poisonbench.training.many.batches import Convention
from poisonbench.training.trace import Trace, check_points, check_trace


@dataclass(frozen=True)
class LeaveOneOut:
    """Scores F(trained on all) - F(trained without i), F = the measure at the test point.

    Positive = helped.

    The runs are paired: both have the same start and walk the same batches, from which i is
    missing, so that what differs is the instance. Even so, in deep nets the effect of one instance
    is usually below the noise of the seed: the standard error over the repeats goes into the log
    beside the scores, and with it the share of scores that are within two of it.

    Attributes:
        measure: F: "loss": minus the cross entropy; "margin": of the logits; "correct": 1 or 0.
        repeats: pairs of runs of an instance, each with a seed of its own; the first has the
            trace's.
        convention: what is deleted: "A" the term of i alone, every batch still divided by its full
            size; "B" i itself, every batch the mean over those that are left.
        candidates: rows of the training set that are left out, one at a time; the others get NaN.
            None for all.

    Raises:
        ValueError: a field out of its range; in `fit`, a candidate that is no row.
    """

    needs: ClassVar[tuple[str, ...]] = ("retraining",)

    measure: Measure = "loss"
    repeats: int = 3
    convention: Convention = "B"
    candidates: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_measure(self.measure)
        check_at_least("repeats", self.repeats, 1)
        check_choice("convention", self.convention, get_args(Convention))
        if self.candidates is not None and len(set(self.candidates)) != len(
            self.candidates
        ):
            raise ValueError("candidates must be different rows, got one twice")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), after training 1 + n models for each repeat.

        Raises:
            TypeError: `trace` is no Trace.
            ConfigError: a batch without i would have a single row, and the model's BatchNorm needs
                two.
        """
        check_trace(trace, self)
        rows = self._rows(len(trace.train))
        ensemble = self._ensemble(trace, rows, None)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            values = ensemble.utility(test, self.measure, trace.loss)
            scores, errors = self.differences(values)
            spread = _spread(errors, rows, len(trace.train))
            attach("standard_error", spread.float())
            if self.repeats > 1:
                unclear = scores.abs() < 2 * errors
                share = float(unclear.double().mean())
                note("share_below_two_standard_errors", share)
            return _spread(scores, rows, len(trace.train))

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,); NaN where no candidate."""
        check_trace(trace, self)
        rows = self._rows(len(trace.train))
        ensemble = self._ensemble(trace, rows, smaller_kept(trace))
        values = ensemble.utility(trace.train, self.measure, trace.loss)
        values = values.unflatten(0, (self.repeats, -1))
        at = rows.to(values.device)
        whole = values[:, 0, at]
        without = values[:, 1:, at].diagonal(dim1=1, dim2=2)
        own = (whole - without).mean(0)
        return _spread(own[None], rows, len(trace.train))[0]

    def differences(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and standard errors over the repeats, (m, c).

        The errors of a single repeat are NaN.

        Args:
            values: (repeats x (1 + c), m) utilities, each repeat the model on all and those
                without each of c instances.
        """
        paired = values.unflatten(0, (self.repeats, -1))
        whole = paired[:, :1]
        without = paired[:, 1:]
        gains = (whole - without).mT  # (repeats, m, c)
        if self.repeats == 1:
            unknown = torch.full_like(gains[0], torch.nan)
            return gains[0], unknown
        mean = gains.mean(0)
        deviations = gains - mean
        squares = (deviations**2).sum(0)
        variance = squares.div(self.repeats * (self.repeats - 1))
        return mean, variance.sqrt()

    def _rows(self, n: int) -> Tensor:
        """Returns the candidates, (c,) int64."""
        if self.candidates is None:
            return torch.arange(n)
        rows = torch.tensor(self.candidates, dtype=torch.int64)
        foreign = (rows < 0) | (rows >= n)
        if bool(foreign.any()):
            raise ValueError(
                f"candidates must be rows of the training set, in [0, {n}), got {self.candidates}"
            )
        return rows

    def _ensemble(
        self,
        trace: Trace,
        rows: Tensor,
        points: Dataset | None,
    ) -> Ensemble:
        """Trains, for each repeat, the model on all and those without each of the rows."""
        models = 1 + len(rows)
        masks = torch.ones(models, len(trace.train), dtype=torch.bool)
        masks[torch.arange(1, models), rows] = False
        others = [
            derive(trace.seed, "leave-one-out", r) for r in range(1, self.repeats)
        ]
        seeds = [trace.seed, *others]
        return train_many(
            trace.train,
            masks.repeat(self.repeats, 1),
            trace.by_recipe,
            [seed for seed in seeds for _ in masks],
            batches="full",
            convention=self.convention,
            points=points,
            scratch=trace.scratch,
        )


def _spread(
    values: Tensor,
    rows: Tensor,
    n: int,
) -> Tensor:
    """Returns (m, n): the values (m, c) of the rows in their columns, NaN in the others."""
    spread = values.new_full((len(values), n), torch.nan)
    return spread.index_copy_(1, rows.to(values.device), values)
