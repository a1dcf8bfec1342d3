"""How well a filter finds the poison among the training rows, from the logs alone. Cost: sorting, however many the resamples.

Poison rows are to be found, clean rows are not. Cover rows, planted by the attacker with their true label, enter no metric: to
find one is neither right nor wrong. They are counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Array, Metric, Sample, ranking, ties
from experiments.evaluation.rows import Row, marks, number
from poisonbench.log import Record
from poisonbench.roles import CLEAN, COVER, POISON

METRICS = ("auroc", "auprc", "recall")


@dataclass(frozen=True, eq=False)
class Bins:
    """The ranks of one filter's scores, as counts: all that its metrics depend on.

    The J different scores of poison rows, descending, cut the clean rows into those above the first, those that tie with it,
    those between it and the second, ..., and those below all.

    Attributes:
        poison: (J,) poison rows of each score.
        clean: (2J + 1,) clean rows above, tied, between, tied, ..., below.
    """

    poison: Array
    clean: Array

    @classmethod
    def of(cls, poison: Array, clean: Array) -> "Bins":
        """Counts finite scores (a,) of poison and (c,) of clean rows; a >= 1."""
        levels, counts = np.unique(-poison, return_counts=True)
        left, right = (np.searchsorted(levels, -clean, side) for side in ("left", "right"))
        return cls(
            counts.astype(float),
            np.bincount(left + right, minlength=2 * len(levels) + 1).astype(float),
        )

    def resampled(self, size: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Counts of `size` bootstrap draws of the poison and, apart, of the clean rows: (size, J) and (size, 2J + 1)."""
        a, c = (
            rng.multinomial(int(n.sum()), n / n.sum(), size=size).astype(float)
            for n in (self.poison, self.clean)
        )
        return a, c


def from_counts(poison: Array, clean: Array) -> dict[str, Array]:
    """AUROC, AUPRC (average precision) and recall at |poison| of counts as in `Bins`: (..., J) and (..., 2J + 1) -> (...).

    Among tied rows the order is taken at random: AUROC counts a tie as half a win, recall takes its mean.
    """
    total, found = poison.sum(-1, keepdims=True), poison.cumsum(-1)
    false = clean.cumsum(-1)
    above, tied = false[..., 0:-1:2], false[..., 1::2]  # clean rows before each score, and up to it
    negatives = false[..., -1:]
    wins = (poison * (negatives - (above + tied) / 2)).sum(-1) / (total * negatives)[..., 0]
    precision = found / np.maximum(found + tied, 1)
    start, length = (
        above + found - poison,
        poison + tied - above,
    )  # where the rows of each score begin in the ranking
    reached = np.clip((total - start) / np.maximum(length, 1), 0, 1)
    return {
        "auroc": wins,
        "auprc": (poison * precision).sum(-1) / total[..., 0],
        "recall": (poison * reached).sum(-1) / total[..., 0],
    }


def intervals(
    groups: Sequence[Sequence[Sample]], draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Hierarchical 95 % bootstrap intervals of the means: scenes within each group, then rows within each scene drawn."""
    bins = [
        [Bins.of(s.attacked, s.controls) for s in scenes if not s.undefined()] for scenes in groups
    ]
    defined, rng = [scenes for scenes in bins if scenes], np.random.default_rng(seed)
    total: dict[str, NDArray[np.float64]] = {name: np.zeros(draws) for name in METRICS}
    for scenes in defined:
        pick = rng.integers(len(scenes), size=(draws, len(scenes)))
        value = {name: np.empty(pick.shape) for name in METRICS}
        for s, scene in enumerate(scenes):
            drawn = from_counts(*scene.resampled(int((pick == s).sum()), rng))
            for name in METRICS:
                value[name][pick == s] = drawn[name]
        for name in METRICS:
            total[name] += value[name].mean(1)
    if not defined:
        return {}
    ends = {name: np.quantile(total[name] / len(defined), (0.025, 0.975)) for name in METRICS}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def identification(record: Record, scene: Record) -> Row:
    """Returns the row of one filter in one scene."""
    role, score = scene.data["poison/role"], record.data["score"].astype(np.float64)
    sample = Sample(
        score[role == POISON],
        score[role == CLEAN],
        np.zeros(int((role == CLEAN).sum()), bool),
        noun="poison rows",
    )
    reason = sample.undefined()
    recall = Metric(None, reason, defined=0)
    if not reason:
        bins = Bins.of(sample.attacked, sample.controls)
        recall = Metric(float(from_counts(bins.poison, bins.clean)["recall"]))
    curves = {name: metric for name, metric in ranking(sample).items() if name in METRICS}
    metrics = {
        **curves,
        "recall": recall,
        "ties": ties(sample),
        "seconds": number(record, "seconds"),
    }
    name, seed = settings(record)
    kinds = {"poison": POISON, "clean": CLEAN, "cover": COVER}
    counts = {key: int((role == value).sum()) for key, value in kinds.items()}
    counts["nonfinite"] = int((~np.isfinite(score)).sum())
    return Row(
        name, (seed,), metrics, counts, marks(record), samples=(sample,), intervals=intervals
    )
