"""Rows of a label without which its suspicious points leave, whatever a model says of the rows.

Poison with true labels cannot be told by what a model trained without it says of it. What tells is
that the flagged points leave with these rows and return with them, while points that are known to
be clean stay.

Needs: influence, and probe points known to be clean.

Cost: a training run a round of removing, one for the rows agreed on, one a round of returning.
"""

from dataclasses import dataclass, replace

from torch import Tensor

from defenses.kit.verdict import Runs, kept_label
from poisonbench.contracts.values import Mitigated
from poisonbench.data import Dataset

_KNOWN = 5  # clean points of the label, without which its rows are not touched
_LOST = 0.1  # share of these that may leave, or one
_REMOVING = 2  # rounds of removing for one of returning


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of a run: do flagged points leave their label, and clean ones not?

    Attributes:
        runs: of the victim.
        points: the flagged points of the label.
        known: the points known to be clean that have the label.
        part: of the label's rows that a round takes, in (0, 1).
        stay: share of the flagged points that may keep the label.
        false: flagged points beyond these that may keep it, as false alarms give as many.
    """

    runs: Runs
    points: Dataset
    known: Dataset
    part: float
    stay: float
    false: float

    def left(self, run: Mitigated) -> bool:
        """Returns whether the flagged points have left."""
        keeps = int(kept_label(run.trace, self.points).sum())
        return keeps <= self.stay * len(self.points) + self.false

    def lost(self, run: Mitigated) -> bool:
        """Returns whether more clean points leave than may."""
        away = int((~kept_label(run.trace, self.known)).sum())
        return away > max(1, int(_LOST * len(self.known)))

    def upper(self, run: Mitigated) -> Tensor:
        """Returns the rows on which the points rest most that have the label still, (k,)."""
        keeps = kept_label(run.trace, self.points)
        return self.runs.upper(run, self.points.take(keeps), self.part)

    def changed(self, run: Mitigated, rows: Tensor, *, kept: bool) -> Mitigated:
        """Returns the run with or without rows, (k,) int64."""
        keep = run.keep.clone()
        keep[rows] = kept
        return self.runs.without(keep, run.retrainings)


def remove_cause(asked: Asked, done: Mitigated, rounds: int) -> Mitigated:
    """Removes rows of one label until its flagged points leave, and returns those not needed.

    A round removes the upper part of the label's rows that are left, by mean influence on the
    points that have the label still. Given up, with nothing removed, if clean points leave, too.
    Then rows that the model without them gives the label are returned, if the points stay away;
    else, of the last round's, by halves those that helped the points least.

    Args:
        asked: the question, about one label.
        done: the run to begin with.
        rounds: of returning by halves, at most; of removing there may be twice as many.
    """
    if len(asked.known) < _KNOWN:
        return done
    run = done
    last = done.keep.nonzero().squeeze(1)[:0]
    for _ in range(_REMOVING * rounds):
        if asked.left(run):
            break
        last = asked.upper(run)
        if not len(last):
            break
        run = asked.changed(run, last, kept=False)
        if asked.lost(run):
            return replace(done, retrainings=run.retrainings)
    if not asked.left(run):
        return replace(done, retrainings=run.retrainings)
    return _returned(asked, done, run, last, rounds)


def _returned(
    asked: Asked, done: Mitigated, run: Mitigated, last: Tensor, rounds: int
) -> Mitigated:
    """Returns the run with the rows that the points do not need."""
    agreed = done.keep & asked.runs.agreed(run)
    tried = asked.runs.without(agreed, run.retrainings)
    if asked.left(tried):
        return tried
    run = replace(run, retrainings=tried.retrainings)
    for _ in range(rounds):
        half = len(last) // 2
        if not half:
            break
        tried = asked.changed(run, last[half:], kept=True)
        if asked.left(tried):
            run = tried
            last = last[:half]
        else:
            run = replace(run, retrainings=tried.retrainings)
            last = last[half:]
    return run
