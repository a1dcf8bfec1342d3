"""Remove and return: rows that suspicious predictions rest on go on trial, and the model trained without them gives the verdict.

Influence proposes, as in target-driven mitigation (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055); out-of-sample predictions
decide, as in confident learning (Northcutt et al., JAIR 2021, arXiv 1911.00068). The composition is this project's own.

Needs: influence, and a detector's flags on the probe. The poison has a wrong label, in which it is a minority.

Cost: two to four training runs and the influence on the flagged points as a rule; twelve runs at most.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.training.trace import Trace

_CLEARED = 0.5  # if more of a label's flagged points than this share have it without the rows removed, these were not the cause
_RIVAL = (
    1 / 3
)  # labels with fewer flagged points than this share of the first label's have false alarms


@dataclass(frozen=True)
class RemoveAndReturn:
    """Removes rows of suspicious labels to which a model that was trained without them gives another label.

    A round trains without the upper half, by mean influence on the flagged points, of every suspicious label. That is far more
    than the poison, so the trigger means little to this model: it gives poison rows their true class, and clean rows their
    label. The former are removed, and the victim is trained again. Rounds follow until the flagged points have left the label,
    with the influence on those alone that a trial made leave, as the others may be clean. In the end rows to which the new
    victim gives their label are returned, and all rows of a label that its points have again: it was suspected without cause.

    So neither the budget nor a cutoff is asked for, and clean rows wrongly removed come back. So does poison with true labels:
    clean-label attacks are not undone. Poison that is half of its label's rows may not be, nor poison whose points go unflagged.

    Attributes:
        part: of a suspicious label's rows, taken out on trial; more than the poison among them, and not all.
        stay: share of a label's flagged points that may keep it.
        least: flagged points that make a label suspicious, with a third of those of the first label. Without, nothing is done.
        rounds: of removing, two retrainings each, and of returning, one each; at most.

    Raises:
        ValueError: a value out of its range, or no flags or influence to work on.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "detector")

    part: float = 0.5
    stay: float = 0.1
    least: int = 3
    rounds: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.part < 1:
            raise ValueError(f"part must lie in (0, 1), got {self.part}")
        if not 0 <= self.stay < _CLEARED:
            raise ValueError(f"stay must lie in [0, {_CLEARED}), got {self.stay}")
        check_at_least("least", self.least, 1)
        check_at_least("rounds", self.rounds, 1)

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the victim without the rows found; the old one where no label is suspicious or every alarm was false."""
        if means.flags is None or means.influence is None:
            raise ValueError(
                "remove-and-return works on a detector's flags (m,) and an estimator's influence, got None"
            )
        flagged = evidence.test.take(means.flags)
        counts = flagged.y.bincount(minlength=flagged.classes)
        points = flagged.take(counts[flagged.y] >= max(self.least, _RIVAL * int(counts.max())))
        runs = _Runs(evidence.trace, means)
        found, moved = self._remove(runs, points)
        done = self._return(runs, found, moved)
        note("suspicious_points", len(points))
        note("moved_points", len(moved))
        note("staying_points", int(_have(done.trace, moved).sum()))
        note("returned_rows", int(done.keep.sum() - found.keep.sum()))
        return done

    def _remove(self, runs: "_Runs", points: Dataset) -> tuple[Mitigated, Dataset]:
        """Removes the rows that the trials convict, round by round; returns the run, and the points that a trial made leave."""
        state, moved = runs.first, torch.zeros_like(points.y, dtype=torch.bool)
        open_ = ~moved
        for turn in range(self.rounds):
            asked = open_ & moved if turn else open_
            if not bool(asked.any()):
                break
            trial = runs.without(state, state.keep & ~self._upper(runs, state, points.take(asked)))
            moved |= open_ & ~_have(trial.trace, points)
            live = points.y[open_ & moved].unique()
            keep = state.keep & (runs.agreed(trial) | ~torch.isin(runs.train.y, live))
            if torch.equal(keep, state.keep):
                state = Mitigated(state.keep, state.trace, trial.retrainings)
                break
            state = runs.without(trial, keep)
            labels, stay = _staying(state.trace, points)
            open_ = torch.isin(points.y, labels[stay > self.stay]) & torch.isin(points.y, live)
        return state, points.take(moved)

    def _return(self, runs: "_Runs", state: Mitigated, points: Dataset) -> Mitigated:
        """Returns the rows that the victim without them agrees to, and those of labels cleared, until there are no more."""
        for _ in range(self.rounds):
            labels, stay = _staying(state.trace, points)
            keep = runs.agreed(state) | torch.isin(runs.train.y, labels[stay > _CLEARED])
            if torch.equal(keep, state.keep):
                break
            state = runs.without(state, keep)
        return state

    def _upper(self, runs: "_Runs", state: Mitigated, points: Dataset) -> Tensor:
        """Returns which rows lie in the upper `part` of a label of `points` by mean influence on these, (n,) bool."""
        rows, y = state.keep.nonzero().squeeze(1), state.trace.train.y
        influence = runs.influence(state.trace, points)
        upper = torch.zeros_like(state.keep)
        for label in points.y.unique():
            own = y == label
            mean = influence[points.y == label][:, own].nanmean(0)
            top = mean.nan_to_num(nan=-torch.inf).topk(int(self.part * len(mean)))
            upper[rows[own][top.indices[top.values > -torch.inf]]] = True
        return upper


class _Runs:
    """The victim's training runs on parts of its rows."""

    def __init__(self, trace: Trace, means: Means) -> None:
        self.train, self.means = trace.train, means
        self.first = Mitigated(torch.ones_like(trace.train.y, dtype=torch.bool), trace, 0)

    def without(self, before: Mitigated, keep: Tensor) -> Mitigated:
        """Returns the run on the rows `keep`, (n,) bool, counted on from the runs before; on all rows that is the victim's."""
        if bool(keep.all()):
            return Mitigated(keep, self.first.trace, before.retrainings)
        return Mitigated(keep, self.means.retrain(keep), before.retrainings + 1)

    def agreed(self, state: Mitigated) -> Tensor:
        """Returns `state.keep` and the other rows to which the model without them gives their label, (n,) bool."""
        out = ~state.keep
        keep = state.keep.clone()
        keep[out] = _have(state.trace, self.train.take(out))
        return keep

    def influence(self, trace: Trace, points: Dataset) -> Tensor:
        """Returns the influence of the run's k rows on m points, (m, k), NaN where it is not finite."""
        assert self.means.influence is not None
        influence = self.means.influence(trace, points).to(trace.train.x)
        if bad := int((~influence.isfinite()).any(1).sum()):
            warnings.warn(
                f"{bad} of {len(points)} points have an influence that is not finite: it is left out",
                stacklevel=5,
            )
        return influence.where(influence.isfinite(), torch.nan)


def _have(trace: Trace, points: Dataset) -> Tensor:
    """Returns which points the run's model gives their label, (m,) bool."""
    return (
        predict(trace.model(), points.x).argmax(1) == points.y if len(points) else points.y.bool()
    )


def _staying(trace: Trace, points: Dataset) -> tuple[Tensor, Tensor]:
    """Returns the labels of the points, (l,), and the share of each one's points to which the run's model gives it, (l,)."""
    labels, index = points.y.unique(return_inverse=True)
    have = _have(trace, points).to(points.x.dtype)
    total = have.new_zeros(len(labels)).index_add_(0, index, have)
    return labels, total / index.bincount(minlength=len(labels))
