"""The training rows of largest and of smallest influence on a prediction."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]


def most_helpful(values: Values, most: int) -> Values:
    """Returns the rows of the largest influences (n,), the largest first; finite ones alone."""
    finite = np.flatnonzero(np.isfinite(values))
    descending = np.argsort(-values[finite], kind="stable")
    return finite[descending[:most]]


def most_harmful(values: Values, most: int) -> Values:
    """Returns the rows of the most negative influences (n,), the smallest first.

    None where most rows have no score, as of an estimator that gives the largest alone: those with
    the smallest may be among them.
    """
    known = np.isfinite(values).mean()
    if known < 0.5:
        return np.empty(0, dtype=np.int64)
    rows = most_helpful(-values, most)
    return rows[values[rows] < 0]
