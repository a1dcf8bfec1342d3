"""The scores behind a row, one sample per scene, and the intervals of their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.intervals import Interval, auroc_measured, mean_interval
from experiments.evaluation.metrics import Array, not_finite

Intervals = dict[str, Interval]

# metrics with an interval, and whether they look at the matched controls alone
RESAMPLED = {"auroc": False, "auroc_matched": True}


@dataclass(frozen=True, eq=False)
class Sample:
    """The scores of one method in one scene.

    Attributes:
        positive: (a,) scores of the points that it should find.
        negative: (c,) scores of the points that it should pass.
        matched: (c,) bool, which of these are matched controls.
        failed: attacked points whose attack failed; they enter no metric.
    """

    positive: Array
    negative: Array
    matched: NDArray[np.bool_]
    failed: int = 0

    NO_POSITIVE: ClassVar[str] = "no attacked points"
    NO_NEGATIVE: ClassVar[str] = "no controls"
    NO_MATCHED: ClassVar[str] = "no matched controls"
    CONSTANT: ClassVar[str] = "constant scores"

    def against(self, matched: bool) -> Array:
        """Returns the scores of the matched controls, or of all."""
        return self.negative[self.matched] if matched else self.negative

    def undefined(self, matched: bool = False) -> str:
        """Returns why no metric of the ranking is defined; an empty text if they are."""
        negative = self.against(matched)
        if not len(self.positive):
            if self.failed:
                return f"none of {self.failed} attacks succeeded"
            return self.NO_POSITIVE
        if not len(negative):
            return self.NO_MATCHED if matched else self.NO_NEGATIVE
        scores = np.concatenate([self.positive, negative])
        bad = not_finite(scores)
        if bad:
            return bad
        if (scores == scores[0]).all():
            return self.CONSTANT
        return ""

    @staticmethod
    def intervals(groups: Sequence[Sequence["Sample"]]) -> Intervals:
        """Returns the intervals of the mean over groups of the mean over their scenes, by metric.

        Scenes in which a metric is undefined are left out, and groups that have no others.
        """
        found = {}
        for key, matched in RESAMPLED.items():
            able = []
            for scenes in groups:
                measured = []
                for scene in scenes:
                    if not scene.undefined(matched):
                        scores = (scene.positive, scene.against(matched))
                        measured.append(auroc_measured(scores))
                if measured:
                    able.append(measured)
            if able:
                found[key] = mean_interval(able)
        return found
