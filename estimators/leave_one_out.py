"""Leave-one-out retraining (Cook & Weisberg 1982): what a test point gains from an instance, by training without it.

Needs: retrained models, one an instance and repeat.

Cost: O(n T) steps for each repeat, O(n p) memory or disk; a new test point O(n p), without retraining.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from estimators.kit.retraining import check_measure, smaller_kept
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.notes import attach, note
from poisonbench.objectives import Measure
from poisonbench.seeding import derive
from poisonbench.training import Ensemble, train_many
from poisonbench.training.many.batches import Convention
from poisonbench.training.trace import Trace


@dataclass(frozen=True)
class LeaveOneOut:
    """Scores F(trained on all) - F(trained without i), F = the measure at the test point: positive = helped.

    The runs are paired: both have the same start and walk the same batches, from which i is missing, so that what differs is
    the instance. Even so, in deep nets the effect of one instance is usually below the noise of the seed: the standard error over
    the repeats goes into the log beside the scores, and with it the share of scores that are within two of it.

    Attributes:
        measure: F: "loss": minus the cross entropy; "margin": of the logits; "correct": 1 or 0.
        repeats: pairs of runs of an instance, each with a seed of its own; the first has the trace's.
        convention: what is deleted: "A" the term of i alone, every batch still divided by its full size; "B" i itself, every
            batch the mean over those that are left.
        candidates: rows of the training set that are left out, one at a time; the others get NaN. None for all.

    Raises:
        ValueError: a field out of its range; in `fit`, a candidate that is no row.
    """

    measure: Measure = "loss"
    repeats: int = 3
    convention: Convention = "B"
    candidates: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_measure(self.measure)
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if self.convention not in get_args(Convention):
            raise ValueError(
                f"convention must be one of {', '.join(get_args(Convention))}, got {self.convention!r}"
            )
        if self.candidates is not None and len(set(self.candidates)) != len(self.candidates):
            raise ValueError("candidates must be different rows, got one twice")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), after training 1 + n models for each repeat."""
        ensemble, rows = self._ensemble(trace, None)

        def score(test: Dataset) -> Tensor:
            scores, errors = self.differences(ensemble.utility(test, self.measure))
            attach("standard_error", self._spread(errors, rows, len(trace.train)).float())
            if self.repeats > 1:
                note(
                    "share_below_two_standard_errors",
                    float((scores.abs() < 2 * errors).double().mean()),
                )
            return self._spread(scores, rows, len(trace.train))

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,); NaN for those that are no candidates."""
        ensemble, rows = self._ensemble(trace, smaller_kept(trace))
        values = ensemble.utility(trace.train, self.measure).unflatten(0, (self.repeats, -1))
        at = rows.to(values.device)
        own = (values[:, 0, at] - values[:, 1:, at].diagonal(dim1=1, dim2=2)).mean(0)
        return self._spread(own[None], rows, len(trace.train))[0]

    def differences(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores and standard errors over the repeats, (m, c), NaN errors for a single repeat.

        Args:
            values: (repeats x (1 + c), m) utilities, each repeat the model on all and those without each of c instances.
        """
        paired = values.unflatten(0, (self.repeats, -1))
        gains = (paired[:, :1] - paired[:, 1:]).mT  # (repeats, m, c)
        if self.repeats == 1:
            return gains[0], torch.full_like(gains[0], torch.nan)
        mean = gains.mean(0)
        return mean, ((gains - mean) ** 2).sum(0).div(self.repeats * (self.repeats - 1)).sqrt()

    def _ensemble(self, trace: Trace, points: Dataset | None) -> tuple[Ensemble, Tensor]:
        n = len(trace.train)
        rows = (
            torch.arange(n)
            if self.candidates is None
            else torch.tensor(self.candidates, dtype=torch.int64)
        )
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < n):
            raise ValueError(
                f"candidates must be rows of the training set, in [0, {n}), got {self.candidates}"
            )
        masks = torch.ones(1 + len(rows), n, dtype=torch.bool)
        masks[torch.arange(1, 1 + len(rows)), rows] = False
        seeds = [trace.seed] + [
            derive(trace.seed, "leave-one-out", r) for r in range(1, self.repeats)
        ]
        ensemble = train_many(
            trace.train,
            masks.repeat(self.repeats, 1),
            trace.recipe,
            [seed for seed in seeds for _ in masks],
            batches="full",
            convention=self.convention,
            points=points,
            scratch=trace.scratch,
        )
        return ensemble, rows

    def _spread(self, values: Tensor, rows: Tensor, n: int) -> Tensor:
        """Returns (m, n): the values (m, c) of the candidates in their columns, NaN in the others."""
        return values.new_full((len(values), n), torch.nan).index_copy_(
            1, rows.to(values.device), values
        )
