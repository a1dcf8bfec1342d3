"""How right estimators are: rank correlations of their predictions with training again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from experiments.evaluation.intervals import Measured, bootstrap_intervals
from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.rows import Row, number, scene_row
from experiments.evaluation.samples import Intervals, Sample
from poisonbench.log import Record, names

METRICS = ("score", "single", "corrected")
NOT_FINITE = "predictions that are not finite"
CONSTANT = "constant predictions"
NO_EFFECT = "constant effects of training again"
FEWEST = 2  # sets of which a variance is told


@dataclass(frozen=True, eq=False)
class Points(Sample):
    """The correlations of the points of one scene.

    Attributes:
        scores: (k, p), the k metrics of the p points where all are defined.
    """

    scores: Array = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def of(cls, scores: Array) -> "Points":
        """Returns the sample of correlations (k, p)."""
        none = np.empty(0)
        return cls(none, none, none.astype(bool), scores=scores)

    def measured(self, variances: Array) -> list[Measured]:
        """Returns the means over the points with their variances (k,)."""
        points = self.scores.shape[1]
        found = []
        for value, variance in zip(self.scores.mean(1), variances, strict=True):
            found.append(Measured(float(value), float(variance), points, signed=True))
        return found

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Returns the means of `size` resamples of the points, (k, size)."""
        points = self.scores.shape[1]
        drawn = rng.integers(points, size=(size, points))
        means: Array = self.scores[:, drawn].mean(2)
        return means

    @staticmethod
    def intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
        """Returns the intervals of the means over points and scenes, by metric.

        A scene of which a metric is undefined is left out of its interval, as of its mean.
        """
        found = {}
        for place, name in enumerate(METRICS):
            able = []
            for samples in groups:
                scenes = _defined(samples, place)
                if scenes:
                    able.append(scenes)
            if able:
                found[name] = bootstrap_intervals(able)[0]
        return found


def _defined(samples: Sequence[Sample], place: int) -> list[Points]:
    """Returns the scenes of which one metric is defined, with that metric alone."""
    found = []
    for sample in samples:
        if not isinstance(sample, Points):
            continue
        scores = sample.scores[place : place + 1]
        if scores.size and np.isfinite(scores).all():
            found.append(Points.of(scores))
    return found


def rightness(record: Record, scene: Record) -> Row:
    """Returns the score of an estimator, what noise of the trainings costs it, and seconds.

    "score": the mean over the points of Spearman's correlation with the mean of all trainings on a
    set; "single": with the first training alone; "reliability": the share of the variance of that
    mean over the sets that is not noise of the trainings; "corrected": the score over the root of
    the reliability, what trainings without end would give.
    """
    found = Found.of(record)
    scores = correlations(found.predicted, found.mean)
    single = correlations(found.predicted, found.first)
    defined = np.isfinite(scores) & np.isfinite(single)
    reason = found.why_undefined()
    reliability = reliability_of(found.mean, found.error)
    score = mean_of(scores[defined], reason)
    metrics = {
        "score": score,
        "single": mean_of(single[defined], reason),
        "reliability": reliability,
        "corrected": corrected(score, reliability),
        "seconds": number(record, "truth_seconds"),
    }
    root = np.nan
    if reliability.value:
        root = reliability.value**0.5
    kept = np.stack([scores[defined], single[defined], scores[defined] / root])
    counts = {"points": int(defined.sum()), "sets": len(found.mean)}
    return scene_row(record, scene, metrics, counts, (Points.of(kept),))


@dataclass(frozen=True, eq=False)
class Found:
    """What a log holds of K sets and m points, (K, m) each, without sets of a run that diverged.

    Attributes:
        predicted: by the estimator.
        mean: of the trainings on a set.
        first: of the first one.
        error: standard error of the mean.
    """

    predicted: Array
    mean: Array
    first: Array
    error: Array

    @classmethod
    def of(cls, record: Record) -> "Found":
        """Returns those of a log."""
        sets = int(record.data[names.PAIR_GROUP].max()) + 1
        tables = []
        for name in (
            names.EFFECT_PREDICTED,
            names.EFFECT_MEAN,
            names.EFFECT_FIRST_RUN,
            names.EFFECT_ERROR,
        ):
            values = record.data[name].astype(np.float64)
            tables.append(values.reshape(sets, -1))
        finished = np.isfinite(tables[1]).all(1)
        return cls(*(table[finished] for table in tables))

    def why_undefined(self) -> str:
        """Returns why no point has a correlation, if none has."""
        if not len(self.mean):
            return "no training that did not diverge"
        if not np.isfinite(self.predicted).all():
            return NOT_FINITE
        if (self.predicted == self.predicted[:1]).all():
            return CONSTANT
        return NO_EFFECT


def correlations(predicted: Array, effects: Array) -> Array:
    """Returns Spearman's correlation of each point over the sets, (m,), for tables (K, m).

    NaN where all predictions or all effects of a point are equal, or one is not finite.
    """
    if not len(predicted):
        return np.full(predicted.shape[1], np.nan)
    a = _standard_ranks(predicted)
    b = _standard_ranks(effects)
    found: Array = (a * b).mean(0)
    return found


def _standard_ranks(values: Array) -> Array:
    """Returns the ranks of each column, ties averaged, with mean 0 and variance 1."""
    ranks = rankdata(values, axis=0, nan_policy="propagate")
    ranks[~np.isfinite(values)] = np.nan
    centred = ranks - ranks.mean(0)
    with np.errstate(invalid="ignore"):
        standard: Array = centred / centred.std(0)
    return standard


def mean_of(scores: Array, reason: str) -> Metric:
    """Returns the mean of the points that have a correlation, undefined for `reason` if none."""
    if not len(scores):
        return undefined(reason)
    return Metric(float(scores.mean()))


def reliability_of(mean: Array, error: Array) -> Metric:
    """Returns one less the variance of the trainings' noise over that between sets, point means.

    Args:
        mean: (K, m), of the trainings on a set.
        error: (K, m), its standard error.
    """
    if len(mean) < FEWEST or not np.isfinite(error).all():
        return undefined("one training per set")
    between = float(mean.var(0, ddof=1).mean())
    if between == 0:
        return undefined(NO_EFFECT)
    noise = float((error**2).mean())
    return Metric(max(0.0, 1 - noise / between))


def corrected(score: Metric, reliability: Metric) -> Metric:
    """Returns the score without attenuation: that over the root of the reliability."""
    if score.value is None:
        return score
    if reliability.value is None:
        return reliability
    if reliability.value == 0:
        return undefined("nothing but noise of the trainings")
    return Metric(float(score.value / reliability.value**0.5))
