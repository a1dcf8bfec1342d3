"""Intervals that are common, and were ours: beside those of evaluation in the simulation."""

from collections.abc import Sequence

import numpy as np

from experiments.evaluation.intervals import Interval, Measured, mean_interval
from experiments.evaluation.metrics import Array


def design_effect(scenes: Sequence[Measured]) -> Interval:
    """Returns Wilson's interval of a rate with fewer points where the seeds differ by more."""
    rates = np.array([scene.value for scene in scenes])
    mean = float(rates.mean())
    size = sum(scene.points for scene in scenes)
    if len(rates) > 1 and rates.var() > 0:
        independent = mean * (1 - mean) * len(rates) / float(rates.var(ddof=1))
        size = min(size, max(1.0, independent))
    pooled = Measured(mean, mean * (1 - mean) / size, size)
    return mean_interval([[pooled]])


def percentile(
    groups: Sequence[Sequence[Array]], draws: int, rng: np.random.Generator
) -> Interval:
    """Returns the middle 95 % of means over scenes drawn anew, with points drawn anew in each."""
    means = np.zeros(draws)
    for scenes in groups:
        pick = rng.integers(len(scenes), size=(draws, len(scenes)))
        values = np.empty(pick.shape)
        for index, matrix in enumerate(scenes):
            chosen = pick == index
            values[chosen] = _resampled(matrix, int(chosen.sum()), rng)
        means += values.mean(axis=1) / len(groups)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _resampled(matrix: Array, size: int, rng: np.random.Generator) -> Array:
    """Means of a matrix over draws of its rows and, apart, its columns: (size,)."""
    rows = _times_drawn(matrix.shape[0], size, rng)
    columns = _times_drawn(matrix.shape[1], size, rng)
    sums = ((rows @ matrix) * columns).sum(axis=1)
    return np.asarray(sums / matrix.size)


def _times_drawn(n: int, size: int, rng: np.random.Generator) -> Array:
    """How often each of n points is drawn in n draws, `size` times: (size, n)."""
    even = np.full(n, 1 / n)
    return rng.multinomial(n, even, size=size).astype(np.float64)
