"""Intervals of 95 % confidence of means over seeds: of the points of a scene, and of the seeds.

Two things are drawn: the points of each scene, and the seeds, that is the victims. What other
points would do is known from the points of each scene: DeLong's variance of an AUROC (Biometrics
44, 1988), p(1 - p)/n of a rate, a bootstrap of other metrics. What other seeds would do is known
from the few seeds alone: the variance between them, with Student's t. An interval is the wider of
the two at each end. With one seed it is of the points alone: of this victim.

The ends are those of Wilson's score interval (JASA 22, 1927) with as many points as the variance
amounts to: they stay in [0, 1] and are right near 0 and 1. How often they cover the truth:
experiments/results/intervals.md. Cost: no resampling, but for metrics without a formula.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf, sqrt
from typing import Protocol

import numpy as np

from experiments.evaluation.metrics import Array

Interval = tuple[float, float]
Scores = tuple[Array, Array]  # (a,) of attacked points and (c,) of controls

LEVEL = 0.975  # quantile of both ends
DRAWS = 1000
# an AUROC counts as at most so many points for each of the smaller group: without a limit one of
# 1 would have no interval
POINTS = 4.0


@dataclass(frozen=True)
class Measured:
    """A metric of one scene.

    Attributes:
        value: in [0, 1], or in [-1, 1] if it is signed.
        variance: over draws of the points of the scene.
        points: independent points that it counts as at most.
        signed: whether it is a difference or a correlation.
    """

    value: float
    variance: float
    points: float
    signed: bool = False


def mean_interval(groups: Sequence[Sequence[Measured]]) -> Interval:
    """Returns the interval of the mean over groups of the mean over their scenes.

    The seeds of a group are drawn; the groups, such as attacks, stand as they are. Degrees of
    freedom of several groups are those of Welch and Satterthwaite.

    Args:
        groups: for each group its scenes, one a seed; at least one group, and one scene in each.
    """
    mean = 0.0
    points = 0.0
    of_points = 0.0  # variances of the mean
    of_seeds = 0.0
    squares = 0.0
    for scenes in groups:
        values = np.array([scene.value for scene in scenes])
        mean += float(values.mean()) / len(groups)
        points += sum(scene.points for scene in scenes)
        inner = sum(scene.variance for scene in scenes)
        share = (len(scenes) * len(groups)) ** 2
        of_points += inner / share
        if len(scenes) == 1:
            of_seeds += inner / share
            continue
        outer = float(values.var(ddof=1)) * len(scenes) / share
        of_seeds += outer
        squares += outer**2 / (len(scenes) - 1)
    ends = _symmetric if groups[0][0].signed else _score
    low, high = ends(mean, of_points, points, t_quantile(inf))
    if squares > 0:
        quantile = t_quantile(of_seeds**2 / squares)
        other = ends(mean, of_seeds, inf, quantile)
        low = min(low, other[0])
        high = max(high, other[1])
    return low, high


@cache
def t_quantile(degrees: float) -> float:
    """Returns the .975 quantile of Student's t with these degrees of freedom."""
    from scipy import special  # here, so that `--help` does not wait for it

    if degrees == inf:
        return float(special.ndtri(LEVEL))
    return float(special.stdtrit(degrees, LEVEL))


def _score(mean: float, variance: float, points: float, quantile: float) -> Interval:
    """Wilson's ends, for as many points as the variance amounts to, and for no more."""
    size = points
    if variance > 0:
        size = min(points, max(1.0, mean * (1 - mean) / variance))
    square = quantile**2 / size
    centre = mean + square / 2
    half = quantile * sqrt(mean * (1 - mean) / size + square / (4 * size))
    low = (centre - half) / (1 + square)
    high = (centre + half) / (1 + square)
    # where none or all were hit, rounding must not move the end
    return max(0.0, min(low, mean)), min(1.0, max(high, mean))


def _symmetric(
    mean: float, variance: float, _points: float, quantile: float
) -> Interval:
    """Ends at equal distance."""
    half = quantile * sqrt(variance)
    return max(-1.0, mean - half), min(1.0, mean + half)


def rate_measured(rate: float, n: float) -> Measured:
    """Returns the share of n independent points."""
    return Measured(rate, rate * (1 - rate) / n, n)


def wilson(rates: Sequence[float], n: int) -> Interval:
    """Returns the interval of the mean of the seeds' rates.

    Args:
        rates: one per seed, in [0, 1].
        n: points of all seeds together.
    """
    points = n / len(rates)
    return mean_interval([[rate_measured(rate, points) for rate in rates]])


def auroc_measured(scores: Scores) -> Measured:
    """Returns the AUROC of scores with DeLong's variance. Cost: a x c comparisons."""
    return _of_wins(_wins(scores))


def difference_measured(one: Scores, other: Scores) -> Measured:
    """Returns how far the AUROC of one detector is above that of another on the same points.

    The variance is that of two more points on which they differ, one in favour of each, as Bonett
    and Price (2012) have it for rates: detectors near 1 differ on few points, or on none.
    """
    found = _of_wins(_wins(one) - _wins(other))
    more = 2 / (found.points + 2) ** 2
    return replace(found, variance=found.variance + more, signed=True)


def _wins(scores: Scores) -> Array:
    """(a, c): 1 where a positive point outscores a negative one, .5 for a tie."""
    positive, negative = scores
    won = positive[:, None] > negative
    tied = positive[:, None] == negative
    return np.asarray(won + 0.5 * tied)


def _of_wins(wins: Array) -> Measured:
    """The mean of a matrix whose rows and, apart, columns are drawn."""
    value = float(wins.mean())
    variance = _variance_of_mean(wins.mean(axis=1))
    variance += _variance_of_mean(wins.mean(axis=0))
    return Measured(value, variance, POINTS * min(wins.shape))


def _variance_of_mean(values: Array) -> float:
    """That of a sample; the largest that there can be of a single value."""
    if len(values) == 1:
        return 0.25
    return float(values.var(ddof=1)) / len(values)


class Resampled(Protocol):
    """One scene, of which the bootstrap draws points."""

    def measured(self, variances: Array) -> list[Measured]:
        """Returns its k metrics, with their variances (k,)."""
        ...

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Returns k metrics of `size` resamples of the points: (k, size)."""
        ...


def bootstrap_intervals(
    groups: Iterable[Sequence[Resampled]], draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """Returns the intervals of k metrics whose variance in a scene has no formula, one a metric.

    Args:
        groups: for each group its scenes; at least one group, and one scene in each.
        draws: resamples of the points of a scene.
        seed: of the generator; equal seeds give equal intervals.
    """
    rng = np.random.default_rng(seed)
    found = []
    for scenes in groups:
        measured = []
        for scene in scenes:
            variances = scene.resampled(draws, rng).var(axis=1, ddof=1)
            measured.append(scene.measured(variances))
        found.append(measured)
    intervals = []
    for metric in range(len(found[0][0])):
        of_one = [[scene[metric] for scene in scenes] for scenes in found]
        intervals.append(mean_interval(of_one))
    return intervals
