"""Means with intervals of 95 % by Student's t."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.intervals import t_quantile, wilson
from poisonbench.log import Array


@dataclass(frozen=True)
class Mean:
    """A mean over what was drawn, with its interval: NaN where one value is all there is."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        if np.isnan(self.low):
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def within(self, least: float, most: float) -> "Mean":
        """Returns it with an interval that does not leave the range of what was averaged."""
        low = np.clip(self.low, least, most)
        high = np.clip(self.high, least, most)
        return Mean(self.value, float(low), float(high))


def mean(values: Array | Sequence[float]) -> Mean:
    """Returns the mean of (k,) values that were drawn independently."""
    drawn = np.asarray(values, dtype=np.float64)
    centre = float(drawn.mean())
    if len(drawn) < 2:
        return Mean(centre, float("nan"), float("nan"))
    error = float(drawn.std(ddof=1)) / len(drawn) ** 0.5
    half = t_quantile(len(drawn) - 1) * error
    return Mean(centre, centre - half, centre + half)


def mean_rate(rates: Sequence[float], points: int) -> Mean:
    """Returns the mean over the seeds of shares of points, with an interval within [0, 1].

    Args:
        rates: one per seed, in [0, 1].
        points: of all seeds together.
    """
    low, high = wilson(rates, points)
    return Mean(float(np.mean(rates)), low, high)
