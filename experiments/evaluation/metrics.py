"""A metric: a number with its interval, or the reason why there is none."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# as a reason: of one scene, and of several with ranges
NOT_FINITE = re.compile(r"(\d+)(?: to (\d+))? of (\d+)(?: to (\d+))? scores not finite")


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


def not_finite(scores: NDArray[Any]) -> str:
    """Returns how many of some scores (k,) are not finite, as a reason; empty if all are."""
    bad = int((~np.isfinite(scores)).sum())
    return f"{bad} of {len(scores)} scores not finite" if bad else ""


def alike(reason: str) -> str:
    """Returns what reasons share that differ in counts of scores that are not finite."""
    return NOT_FINITE.sub("scores not finite", reason)


def merged(reasons: Iterable[str]) -> list[str]:
    """Returns reasons without repetitions; those that are `alike` become one, with ranges."""
    groups: dict[str, list[str]] = {}
    for reason in dict.fromkeys(reasons):
        groups.setdefault(alike(reason), []).append(reason)
    return [_ranged(group) for group in groups.values()]


def _ranged(group: list[str]) -> str:
    """The first of some reasons that are alike, with the ranges of the counts of all."""
    if len(group) == 1:
        return group[0]
    found = [match for reason in group for match in NOT_FINITE.finditer(reason)]
    bad = _range([count for match in found for count in match.group(1, 2) if count])
    of = _range([count for match in found for count in match.group(3, 4) if count])
    return NOT_FINITE.sub(f"{bad} of {of} scores not finite", group[0])


def _range(counts: list[str]) -> str:
    least = min(counts, key=int)
    largest = max(counts, key=int)
    return least if least == largest else f"{least} to {largest}"


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
    reason = "; ".join(merged(reasons))
    count = len(values)
    if not values:
        return undefined(reason)
    if reason and count < len(metrics):
        reason = f"over {count} of {len(metrics)} {each}: {reason}"
    elif reason and len(reasons) < len(metrics):
        reason = f"in {len(reasons)} of {len(metrics)} {each}: {reason}"
    return Metric(float(of(values)), reason, defined=count)
