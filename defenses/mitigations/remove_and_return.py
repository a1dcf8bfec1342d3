"""Remove and return: a model trained without suspected rows decides whether they were poison.

Suspected are the rows that suspicious predictions rest on. Influence proposes, as in target-driven
mitigation (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055); out-of-sample predictions decide, as in
confident learning (Northcutt et al., JAIR 2021, arXiv 1911.00068). The composition is this
project's own.

Needs: influence, features, and a detector's flags on the probe; points known to be clean, where the
poison has true labels.

Cost: four to eight training runs and the influence on the flagged points as a rule; twelve at most,
three more where poison is found in further labels, up to 13 for a label that its points do not
leave.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.mitigating.cause import Asked, remove_cause
from defenses.kit.mitigating.spread import spread
from defenses.kit.verdict import (
    Runs,
    attacked_beyond_doubt,
    beyond_chance,
    false_alarms,
    flagged_points,
    kept_label,
    kept_labels,
    known_points,
    points_judged,
)
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.values import Evidence, Means, Mitigated
from poisonbench.data import Dataset
from poisonbench.notes import note

# if more of a label's flagged points than this share have it without the rows removed, these were
# not the cause
_CLEARED = 0.5
# labels with fewer flagged points than this share of the first label's have false alarms
_RIVAL = 1 / 3


@dataclass(frozen=True)
class RemoveAndReturn:
    """Removes rows of suspicious labels to which a model trained without them gives another label.

    A round trains without the upper half, by mean influence on the flagged points, of every
    suspicious label. That is far more than the poison, so the trigger means little to this model:
    it gives poison rows their true class, and clean rows their label. The former are removed, and
    the victim is trained again. Rounds follow until the flagged points have left the label, with
    the influence on those alone that a trial made leave, as the others may be clean. In the end
    rows to which the new victim gives their label are returned, and all rows of a label that its
    points have again: it was suspected without cause.

    Where a label has more flagged points than false alarms explain, and the first trial makes half
    of them leave, one more round follows for what is left of the poison, and no rows are returned
    that bring the points back.

    Where rows of several labels are convicted and flagged points of others keep theirs, the trigger
    may be one for all labels (`defenses.kit.mitigating.spread`). Where a label has more flagged
    points than false alarms explain, and they keep it all the same, the rows go that these points
    leave with, if points known to be clean stay (`defenses.kit.mitigating.cause`): poison with true
    labels, or as many rows as the label has of its own.

    So neither the budget nor a cutoff is asked for, and clean rows wrongly removed come back.
    Poison whose points go unflagged stays.

    Attributes:
        part: of a suspicious label's rows, taken out on trial; more than the poison among them, and
            not all.
        stay: share of a label's flagged points that may keep it.
        least: flagged points that make a label suspicious, with a third of those of the first
            label. Without, nothing is done.
        rounds: of removing, two retrainings each, and of returning, one each; at most.

    Raises:
        ValueError: a value out of its range, or no flags or influence to work on.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features", "reference", "detector")

    part: float = 0.5
    stay: float = 0.1
    least: int = 3
    rounds: int = 4

    def __post_init__(self) -> None:
        check_fraction("part", self.part)
        if not 0 <= self.stay < _CLEARED:
            raise ValueError(f"stay must lie in [0, {_CLEARED}), got {self.stay}")
        check_at_least("least", self.least, 1)
        check_at_least("rounds", self.rounds, 1)

    def __call__(self, evidence: Evidence, means: Means) -> Mitigated:
        """Returns the victim without the rows found.

        That is the old one where no label is suspicious or every alarm was false.
        """
        flagged = flagged_points("remove-and-return", evidence, means)
        judged = points_judged(evidence, means)
        points = self._suspicious(flagged)
        sure = beyond_chance(points, judged, means.alarm)
        runs = Runs(evidence.trace, means)
        removed, moved, left = self._remove(runs, points, sure)
        done = removed
        spreads = False
        if attacked_beyond_doubt(flagged, judged, means.alarm):
            done, spreads = spread(runs, removed, flagged, self.part)
        if not spreads:
            done = self._return(runs, done, moved, left)
        known = known_points(evidence, means)
        held = kept_labels(done.trace, points, _CLEARED)
        for label in held[torch.isin(held, sure)]:
            own = points.take(points.y == label)
            clean = known.take(known.y == label)
            false = false_alarms(judged, label, means.alarm)
            asked = Asked(runs, own, clean, self.part, self.stay, false)
            done = remove_cause(asked, done, self.rounds)
        note("suspicious_points", len(points))
        note("moved_points", len(moved))
        staying = kept_label(done.trace, moved)
        note("staying_points", int(staying.sum()))
        returned = done.keep & ~removed.keep
        note("returned_rows", int(returned.sum()))
        return done

    def _suspicious(self, flagged: Dataset) -> Dataset:
        """Returns the flagged points of the labels that have enough of them."""
        counts = flagged.y.bincount(minlength=flagged.classes)
        most = int(counts.max())
        least = max(self.least, _RIVAL * most)
        enough = counts[flagged.y] >= least
        return flagged.take(enough)

    def _remove(
        self,
        runs: Runs,
        points: Dataset,
        sure: Tensor,
    ) -> tuple[Mitigated, Dataset, Tensor]:
        """Removes the rows that the trials convict, round by round.

        Returns:
            The last run; the points that a trial made leave their label; of the labels in `sure`
            those that half of their points left in the first trial.
        """
        done = runs.first
        moved = torch.zeros_like(points.y, dtype=torch.bool)
        suspect = torch.ones_like(moved)
        asked = suspect
        last = False
        for turn in range(self.rounds):
            trial = self._trial(runs, done, points.take(asked))
            if not turn:
                stay = kept_labels(trial.trace, points, _CLEARED)
                sure = sure[~torch.isin(sure, stay)]
            left = ~kept_label(trial.trace, points)
            moved = moved | (suspect & left)
            labels = points.y[suspect & moved].unique()
            keep = done.keep & runs.acquitted(trial, labels)
            if torch.equal(keep, done.keep):
                done = replace(done, retrainings=trial.retrainings)
                break
            done = runs.without(keep, trial.retrainings)
            if last:
                break
            held = kept_labels(done.trace, points, self.stay)
            last = not bool(torch.isin(held, labels).any())
            again = sure if last else held
            labels = labels[torch.isin(labels, again)]
            if not len(labels):
                break
            suspect = torch.isin(points.y, labels)
            asked = suspect & moved
        return done, points.take(moved), sure

    def _trial(self, runs: Runs, done: Mitigated, points: Dataset) -> Mitigated:
        """Returns the run without the upper `part` of each label of `points`.

        Upper by mean influence on the label's points.
        """
        keep = done.keep.clone()
        keep[runs.upper(done, points, self.part)] = False
        return runs.without(keep, done.retrainings)

    def _return(
        self,
        runs: Runs,
        done: Mitigated,
        points: Dataset,
        sure: Tensor,
    ) -> Mitigated:
        """Returns rows until there are no more: those acquitted, and all of labels cleared.

        A label in `sure` whose points come back with its rows gets none: the rows were the cause.
        """
        y = runs.train.y
        refused = torch.zeros_like(y, dtype=torch.bool)
        for _ in range(self.rounds):
            cleared = torch.isin(y, kept_labels(done.trace, points, _CLEARED))
            returned = runs.agreed(done) | cleared
            keep = done.keep | (returned & ~refused)
            if torch.equal(keep, done.keep):
                break
            tried = runs.without(keep, done.retrainings)
            back = kept_labels(tried.trace, points, self.stay)
            cause = torch.isin(y, back[torch.isin(back, sure)]) & ~cleared
            if bool((cause & keep & ~done.keep).any()):
                refused = refused | cause
                done = replace(done, retrainings=tried.retrainings)
                continue
            done = tried
        return done
