"""Filters: how well their scores find the poison among the training rows.

Poison rows are to be found, clean rows are not. Cover rows, planted by the attacker with their true
label, enter no metric: to find one is neither right nor wrong. They are counted.
Cost: sorting, however many the resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from experiments.evaluation.intervals import POINTS, Measured, bootstrap_intervals
from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.ranking import (
    Counts,
    auroc,
    average_precision,
    ranking,
    recall_at_size,
    ties,
)
from experiments.evaluation.rows import Row, number, scene_row
from experiments.evaluation.samples import Intervals, Sample
from poisonbench.log import Record, names
from poisonbench.roles import CLEAN, COVER, POISON

METRICS = ("auroc", "auprc", "recall")


@dataclass(frozen=True, eq=False)
class FilterScene:
    """The counts of one scene, as the bootstrap draws from them."""

    counts: Counts

    def measured(self, variances: Array) -> list[Measured]:
        """Returns `METRICS` with their variances (3,)."""
        rows = float(min(self.counts.size, self.counts.other_size))
        values = (
            auroc(self.counts),
            average_precision(self.counts),
            recall_at_size(self.counts),
        )
        limits = (POINTS * rows, rows, rows)
        found = []
        for value, variance, limit in zip(values, variances, limits, strict=True):
            found.append(Measured(float(value), float(variance), limit))
        return found

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Returns `METRICS` of `size` draws of the poison and, apart, the clean rows: (3, size)."""
        drawn = Counts(
            positives=_drawn(self.counts.positives, size, rng),
            negatives=_drawn(self.counts.negatives, size, rng),
        )
        return np.stack([auroc(drawn), average_precision(drawn), recall_at_size(drawn)])


def _drawn(counts: Array, size: int, rng: np.random.Generator) -> Array:
    """Counts of as many rows drawn with replacement, `size` times: (size, len(counts))."""
    total = int(counts.sum())
    return rng.multinomial(total, counts / total, size=size).astype(float)


class FilterSample(Sample):
    """The scores of poison rows and of clean rows in one scene."""

    NO_POSITIVE: ClassVar[str] = "no poison rows"
    NO_NEGATIVE: ClassVar[str] = "no clean rows"

    @staticmethod
    def intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
        """Returns the intervals of `METRICS`."""
        able = []
        for samples in groups:
            scenes = [
                FilterScene(Counts.of(sample.positive, sample.negative))
                for sample in samples
                if not sample.undefined()
            ]
            if scenes:
                able.append(scenes)
        if not able:
            return {}
        found = bootstrap_intervals(able)
        return dict(zip(METRICS, found, strict=True))


def identification(record: Record, scene: Record) -> Row:
    """Returns AUROC, AUPRC, recall at the number of poison rows, ties and seconds."""
    role = scene.data[names.POISON_ROLE]
    score = record.data[names.SCORE].astype(np.float64)
    clean = score[role == CLEAN]
    sample = FilterSample(
        positive=score[role == POISON],
        negative=clean,
        matched=np.zeros(len(clean), bool),
    )
    ranked = ranking(sample)
    metrics = {
        "auroc": ranked["auroc"],
        "auprc": ranked["auprc"],
        "recall": _recall(sample),
        "ties": ties(sample),
        "seconds": number(record, "seconds"),
    }
    counts = {
        "poison": int((role == POISON).sum()),
        "clean": int((role == CLEAN).sum()),
        "cover": int((role == COVER).sum()),
        "nonfinite": int((~np.isfinite(score)).sum()),
    }
    return scene_row(record, scene, metrics, counts, (sample,))


def _recall(sample: Sample) -> Metric:
    reason = sample.undefined()
    if reason:
        return undefined(reason)
    return Metric(float(recall_at_size(Counts.of(sample.positive, sample.negative))))
