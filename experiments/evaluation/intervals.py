"""Intervals of 95 % confidence: Wilson's for rates, the hierarchical bootstrap for the rest."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from experiments.evaluation.metrics import Array

Interval = tuple[float, float]
Scores = tuple[Array, Array]  # (a,) of attacked points and (c,) of controls

Z = 1.959963984540054  # the .975 quantile of the normal distribution
ENDS = (0.025, 0.975)
DRAWS = 2000
KEPT = 1024  # tables of draws, of a tenth of a megabyte each

_drawn_before: "OrderedDict[tuple[int, int, str], tuple[Array, Any]]" = OrderedDict()


def wilson(rates: Sequence[float], n: int) -> Interval:
    """Returns Wilson's interval of the mean of the seeds' rates.

    Points of one victim succeed together. So n is cut to p(1 - p) over the squared standard error
    of the mean between the seeds where that is less (the design effect of clustered samples): two
    seeds with 0 % and 100 % count as one point.

    Args:
        rates: one per seed, in [0, 1].
        n: points of all seeds together.
    """
    p = float(np.mean(rates))
    size = _effective_size(rates, n)
    centre = p + Z * Z / (2 * size)
    correction = Z * Z / (4 * size * size)
    half = Z * np.sqrt(p * (1 - p) / size + correction)
    scale = 1 + Z * Z / size
    low = float((centre - half) / scale)
    high = float((centre + half) / scale)
    return max(0.0, low), min(1.0, high)


def _effective_size(rates: Sequence[float], n: int) -> float:
    """How many independent points the rates of the seeds amount to."""
    size = float(n)
    if len(rates) < 2:
        return size
    p = float(np.mean(rates))
    squared_error = float(np.var(rates, ddof=1)) / len(rates)
    if squared_error > 0:
        independent = p * (1 - p) / squared_error
        size = min(size, max(1.0, independent))
    return size


class Resampled(Protocol):
    """One scene, of which the bootstrap draws points."""

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Returns k metrics of `size` resamples of the points: (k, size)."""
        ...


def hierarchical_bootstrap(
    groups: Sequence[Sequence[Resampled]], draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """Returns percentile intervals of the mean over groups of the mean over scenes, one per metric.

    Within each group the scenes are drawn with replacement (a single one stands). Within every
    scene drawn, its points are drawn anew. With two or three seeds the intervals are rough.

    Args:
        groups: for each group its scenes; at least one group, and one scene in each.
        draws: resamples.
        seed: of the generator; equal seeds give equal intervals.
    """
    rng = np.random.default_rng(seed)
    # matrix products so small cost more to share among threads than to do
    with _libraries().limit(limits=1, user_api="blas"):
        group_means = [_group_means(scenes, draws, rng) for scenes in groups]
    means = np.sum(group_means, axis=0) / len(groups)  # (k, draws)
    return [_middle(draws_of_one) for draws_of_one in means]


def _middle(values: Array) -> Interval:
    """The middle 95 % of some values."""
    low, high = np.quantile(values, ENDS)
    return float(low), float(high)


def _group_means(
    scenes: Sequence[Resampled], draws: int, rng: np.random.Generator
) -> Array:
    """The mean over the scenes drawn, for each metric and draw: (k, draws)."""
    pick = rng.integers(len(scenes), size=(draws, len(scenes)))
    values = np.empty(0)
    for index, scene in enumerate(scenes):
        chosen = pick == index
        times = int(chosen.sum())
        drawn = scene.resampled(times, rng)
        if index == 0:
            values = np.empty((len(drawn), *pick.shape))
        values[:, chosen] = drawn
    return np.asarray(values.mean(-1))


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, hence once


@dataclass(frozen=True, eq=False)
class Wins:
    """Which positive point outscores which negative one in a scene.

    Attributes:
        matrix: (a, c), 1 for a win, 0.5 for a tie. Its mean is the AUROC; that of the difference
            of two detectors' matrices is the difference of their AUROC.
    """

    matrix: Array

    @classmethod
    def of(cls, positive: Array, negative: Array) -> "Wins":
        """Compares scores (a,) with scores (c,)."""
        won = positive[:, None] > negative
        tied = positive[:, None] == negative
        return cls(won + 0.5 * tied)

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Means of the matrix over resamples of its rows and, apart, its columns: (1, size).

        Cost: size x a x c multiplications; nothing is sorted.
        """
        height, width = self.matrix.shape
        rows = _times_drawn(height, size, rng)
        columns = _times_drawn(width, size, rng)
        won_by_column = rows @ self.matrix
        sums = (won_by_column * columns).sum(1)
        means = sums / self.matrix.size
        return np.asarray(means[None])


def _times_drawn(n: int, size: int, rng: np.random.Generator) -> Array:
    """How often each of n points is drawn in n draws with replacement, `size` times: (size, n).

    Equal seeds draw the same for every method of a scene: what a generator in this state drew last
    is kept, and the generator is brought to the state behind it.
    """
    key = (n, size, repr(rng.bit_generator.state))
    if key in _drawn_before:
        counts, after = _drawn_before[key]
        rng.bit_generator.state = after
        _drawn_before.move_to_end(key)
        return counts.astype(np.float64)
    drawn = rng.integers(n, size=(size, n))
    cell = drawn + n * np.arange(size)[:, None]
    found = np.bincount(cell.ravel(), minlength=size * n).reshape(size, n)
    _drawn_before[key] = (
        found.astype(np.min_scalar_type(found.max())),
        rng.bit_generator.state,
    )
    if len(_drawn_before) > KEPT:
        _drawn_before.popitem(last=False)
    return found.astype(np.float64)


def auroc_interval(
    groups: Sequence[Sequence[Scores]],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Returns the bootstrap interval of the mean AUROC.

    Args:
        groups: for each group the scores of its scenes.
        draws: resamples.
        seed: of the generator.
    """
    matrices = [[Wins.of(*scores) for scores in scenes] for scenes in groups]
    [interval] = hierarchical_bootstrap(matrices, draws, seed)
    return interval


def difference_interval(
    groups: Sequence[Sequence[tuple[Scores, Scores]]],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Returns the bootstrap interval of the mean difference of two detectors' AUROC.

    Every draw of scenes and points is shared by both.

    Args:
        groups: for each group its scenes: the scores of one detector, and those of the other on the
            same points.
        draws: resamples.
        seed: of the generator.
    """
    matrices = [[_difference(*pair) for pair in scenes] for scenes in groups]
    [interval] = hierarchical_bootstrap(matrices, draws, seed)
    return interval


def _difference(one: Scores, other: Scores) -> Wins:
    """What one detector wins more than another on the same points."""
    own = Wins.of(*one)
    rival = Wins.of(*other)
    return Wins(own.matrix - rival.matrix)
