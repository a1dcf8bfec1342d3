"""A metric: a number with its interval, or the reason why there is none."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """A number, or None and the reason why it is undefined.

    Attributes:
        value: the number.
        reason: why it, or a part of it if it is a mean, is undefined, or what is to be said of it;
            empty if there is nothing.
        interval: ends of the interval of 95 % confidence.
        defined: how many numbers entered the mean.
    """

    value: float | None
    reason: str = ""
    interval: tuple[float, float] | None = None
    defined: int = 1


def undefined(reason: str) -> Metric:
    """Returns a metric without a value."""
    return Metric(None, reason, defined=0)


def rate(hits: NDArray[Any], none: str, bad: str = "") -> Metric:
    """Returns the share of true entries.

    Args:
        hits: (n,) bool.
        none: the reason for which the share is undefined if n is 0.
        bad: a reason for which it is undefined in any case, empty if there is none.
    """
    if bad:
        return undefined(bad)
    if not len(hits):
        return undefined(none)
    return Metric(float(hits.mean()))


def mean_metric(
    metrics: Collection[Metric],
    each: str = "scenes",
    of: Callable[[list[float]], Any] = np.mean,
) -> Metric:
    """Returns the mean of the defined values; its reason counts and names those with one.

    Args:
        metrics: what to average.
        each: what each of them stands for, in the plural.
        of: what to take instead of the mean, such as `max`.
    """
    values = [metric.value for metric in metrics if metric.value is not None]
    reasons = [metric.reason for metric in metrics if metric.reason]
    reason = "; ".join(dict.fromkeys(reasons))
    count = len(values)
    if not values:
        return undefined(reason)
    if reason and count < len(metrics):
        reason = f"over {count} of {len(metrics)} {each}: {reason}"
    elif reason and len(reasons) < len(metrics):
        reason = f"in {len(reasons)} of {len(metrics)} {each}: {reason}"
    return Metric(float(of(values)), reason, defined=count)
