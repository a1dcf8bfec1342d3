"""Intervals of 95 % confidence: Wilson's for rates, the hierarchical bootstrap for the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from experiments.evaluation.metrics import Array

Interval = tuple[float, float]

Z = 1.959963984540054  # the .975 quantile of the normal distribution
ENDS = (0.025, 0.975)
DRAWS = 2000


def wilson(rates: Sequence[float], n: int) -> Interval:
    """Returns Wilson's interval of the mean of the seeds' rates.

    Points of one victim succeed together. So n is cut to p(1 - p) over the squared standard error of
    the mean between the seeds where that is less (the design effect of clustered samples): two seeds
    with 0 % and 100 % count as one point.

    Args:
        rates: one per seed, in [0, 1].
        n: points of all seeds together.
    """
    p = float(np.mean(rates))
    variance = p * (1 - p)
    size = float(n)
    if len(rates) > 1:
        error = float(np.var(rates, ddof=1)) / len(rates)
        if error > 0:
            size = min(size, max(1.0, variance / error))
    centre = p + Z * Z / (2 * size)
    half = Z * np.sqrt(variance / size + Z * Z / (4 * size * size))
    scale = 1 + Z * Z / size
    low = float((centre - half) / scale)
    high = float((centre + half) / scale)
    return max(0.0, low), min(1.0, high)


class Resampled(Protocol):
    """One scene, of which the bootstrap draws points."""

    def resampled(self, size: int, rng: np.random.Generator) -> Array:
        """Returns k metrics of `size` resamples of the points: (k, size)."""
        ...


def hierarchical_bootstrap(
    groups: Sequence[Sequence[Resampled]], draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """Returns percentile intervals of the mean over groups of the mean over scenes, one per metric.

    Within each group the scenes are drawn with replacement (a single one stands). Within every scene
    drawn, its points are drawn anew. With two or three seeds the intervals are rough.

    Args:
        groups: for each group its scenes; at least one group, and one scene in each.
        draws: resamples.
        seed: of the generator; equal seeds give equal intervals.
    """
    rng = np.random.default_rng(seed)
    total: Array | None = None
    # matrix products so small cost more to share among threads than to do
    with _libraries().limit(limits=1, user_api="blas"):
        for scenes in groups:
            means = _group_means(scenes, draws, rng)
            total = means if total is None else total + means
    assert total is not None, "no groups"
    low, high = np.quantile(total / len(groups), ENDS, axis=-1)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _group_means(scenes: Sequence[Resampled], draws: int, rng: np.random.Generator) -> Array:
    """The mean over the scenes drawn, for each metric and draw: (k, draws)."""
    pick = rng.integers(len(scenes), size=(draws, len(scenes)))
    values: Array | None = None
    for index, scene in enumerate(scenes):
        chosen = pick == index
        drawn = scene.resampled(int(chosen.sum()), rng)
        if values is None:
            values = np.empty((len(drawn), *pick.shape))
        values[:, chosen] = drawn
    assert values is not None, "no scenes"
    means: Array = values.mean(-1)
    return means


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries, hence once


@dataclass(frozen=True, eq=False)
class Wins:
    """Which positive point outscores which negative one in a scene.

    Attributes:
        matrix: (a, c), 1 for a win, 0.5 for a tie. Its mean is the AUROC; that of the difference of two
            detectors' matrices is the difference of their AUROC.
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
        rows = _times_drawn(self.matrix.shape[0], size, rng)
        columns = _times_drawn(self.matrix.shape[1], size, rng)
        means: Array = ((rows @ self.matrix) * columns).sum(1) / self.matrix.size
        return means[None]


def _times_drawn(n: int, size: int, rng: np.random.Generator) -> Array:
    """How often each of n points is drawn in n draws with replacement, `size` times: (size, n)."""
    drawn = rng.integers(n, size=(size, n))
    cell = drawn + n * np.arange(size)[:, None]
    counts = np.bincount(cell.ravel(), minlength=size * n)
    return counts.reshape(size, n).astype(np.float64)


def auroc_interval(
    groups: Sequence[Sequence[tuple[Array, Array]]], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Returns the bootstrap interval of the mean AUROC.

    Args:
        groups: for each group its scenes: scores (a,) of attacked points and (c,) of controls.
        draws: resamples.
        seed: of the generator.
    """
    matrices = [[Wins.of(*scene) for scene in scenes] for scenes in groups]
    [interval] = hierarchical_bootstrap(matrices, draws, seed)
    return interval


def difference_interval(
    groups: Sequence[Sequence[tuple[tuple[Array, Array], tuple[Array, Array]]]],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Returns the bootstrap interval of the mean difference of two detectors' AUROC.

    Every draw of scenes and points is shared by both.

    Args:
        groups: for each group its scenes: the scores of one detector, (a,) and (c,), and those of the
            other on the same points.
        draws: resamples.
        seed: of the generator.
    """
    matrices = []
    for scenes in groups:
        pairs = [(Wins.of(*one), Wins.of(*other)) for one, other in scenes]
        matrices.append([Wins(one.matrix - other.matrix) for one, other in pairs])
    [interval] = hierarchical_bootstrap(matrices, draws, seed)
    return interval
