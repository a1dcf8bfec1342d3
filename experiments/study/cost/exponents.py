"""The exponent with which a cost grows: a line through logarithms, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.intervals import t_quantile


@dataclass(frozen=True)
class Exponent:
    """What cost ~ size^value was fitted by.

    Attributes:
        value: over all sizes, by least squares of the logarithms.
        low: of its 95 % interval, by Student's t.
        high: likewise.
        last: over the last doubling alone, where what does not grow weighs least.
    """

    value: float
    low: float
    high: float
    last: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]; {self.last:.2f}"


def exponent(sizes: Sequence[float], costs: Sequence[Sequence[float]]) -> Exponent:
    """Fits the exponent of a cost.

    Args:
        sizes: at least three, ascending.
        costs: a positive value or more for each size.
    """
    xs = []
    ys = []
    for size, values in zip(sizes, costs, strict=True):
        xs += [np.log(size)] * len(values)
        ys += [np.log(value) for value in values]
    x = np.asarray(xs)
    y = np.asarray(ys)
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    rest = y - y.mean() - slope * centred
    degrees = len(y) - 2
    variance = float(rest @ rest) / degrees
    half = t_quantile(degrees) * (variance / spread) ** 0.5
    grown = np.log(_middle(costs[-1]) / _middle(costs[-2]))
    last = float(grown / np.log(sizes[-1] / sizes[-2]))
    return Exponent(slope, slope - half, slope + half, last)


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values))
