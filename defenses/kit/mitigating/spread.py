"""Poison of further labels, found by its likeness to rows that are already convicted.

A backdoor that attacks every class has few rows and fewer flagged points under each label: too few
of many labels to put them on trial. Its trigger is the same in all of them, and features show it.

Needs: features.

Cost: three training runs, and linear discriminants.
"""

from dataclasses import replace

import torch
from torch import Tensor

from defenses.kit.features import features_of
from defenses.kit.mitigating.likeness import likeness, standardised_features
from defenses.kit.verdict import Runs, kept_label
from poisonbench.contracts.values import Mitigated
from poisonbench.data import Dataset

# labels with convicted rows: what one trigger does to one label is no evidence
_SEVERAL = 2
_TRIALS = 2  # the second by what the first convicted, too
# share of the points not explained so far that must leave: some are false alarms
_LEFT = 1 / 3


def spread(
    runs: Runs, done: Mitigated, flagged: Dataset, part: float
) -> tuple[Mitigated, bool]:
    """Removes rows of any label that are alike those removed and that a trial convicts.

    A trial takes the upper `part` of every label by likeness. Removed in the end are the rows that
    it, or those before, convicted and that are still alike the others convicted. Only where rows of
    several labels were removed and flagged points keep their label all the same; and only if at
    least a third of these leave.

    Args:
        runs: of the victim.
        done: the run without the rows convicted so far.
        flagged: all points that the detector flags, with the labels predicted at first.
        part: of a label's rows, in (0, 1).

    Returns:
        The new run, or the old one; whether it is the new one.
    """
    y = runs.train.y
    rest = flagged.take(kept_label(done.trace, flagged))
    labels = y[~done.keep].unique()
    if len(labels) < _SEVERAL or not len(rest):
        return done, False
    seen = features_of(runs.first.trace, "penultimate", runs.train)
    features = standardised_features(seen)
    acquitted = done.keep
    beside = acquitted & torch.isin(y, labels)
    made = done.retrainings
    for _ in range(_TRIALS):
        alike = likeness(features, ~acquitted, beside)
        trial = runs.without(_without_upper(acquitted, y, alike, part), made)
        made = trial.retrainings
        acquitted = acquitted & runs.agreed(trial)
        beside = acquitted
    alike = likeness(features, ~acquitted, acquitted)
    new = runs.without(acquitted | (alike <= 0), made)
    left = (~kept_label(new.trace, rest)).double().mean()
    if left < _LEFT:
        return replace(done, retrainings=new.retrainings), False
    return new, True


def _without_upper(keep: Tensor, y: Tensor, scores: Tensor, part: float) -> Tensor:
    """Returns the rows kept, (n,) bool, without the upper part of each label's by score."""
    left = keep.clone()
    for label in y[keep].unique():
        own = (keep & (y == label)).nonzero().squeeze(1)
        count = int(part * len(own))
        left[own[scores[own].topk(count).indices]] = False
    return left
