"""AUROC against the seconds of the estimator: what does a better influence score cost?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, natural, scene_config
from experiments.evaluation.rows import Row
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.plots.methods import (
    CHANCE,
    NO_INFLUENCE,
    chance,
    mean_auroc,
    point,
)
from experiments.report.plots.panels import label_outer, largest, panels, saying

FEW_DECADES = 50.0  # up to which the axis of seconds has a tick at 2 and at 5, too


@dataclass(frozen=True)
class Point:
    """An estimator under a detector.

    Attributes:
        estimator: as the legend calls it.
        seconds: to fit and to score, mean over scenes.
        auroc: mean over the attacks.
    """

    estimator: str
    seconds: float
    auroc: Metric


def points(detections: Sequence[Row], costs: Sequence[Row]) -> dict[str, list[Point]]:
    """Returns the points of each detector that reads influence, the cheapest first.

    Args:
        detections: rows over seeds and attacks, or over seeds where there is one attack.
        costs: rows of the estimators.
    """
    names = RowNames.of([*detections, *costs])
    seconds = {_estimator(row, names): _seconds(row) for row in costs}
    found: dict[str, list[Point]] = {}
    for row in detections:
        estimator = _estimator(row, names)
        took = seconds.get(estimator)
        metric = row.metrics["auroc"]
        if took and metric.value is not None:
            detector = names.all(row)[-1]
            place = Point(estimator, took, metric)
            found.setdefault(detector, []).append(place)
    for of_one in found.values():
        of_one.sort(key=_cost)
    return found


def _cost(place: Point) -> float:
    """A sort key."""
    return place.seconds


def _estimator(row: Row, names: RowNames) -> str:
    """The estimator of a row, with the scene where several occur."""
    name = names.method(row, "estimator")
    if names.several_scenes:
        name += f", {names.scenes.name(scene_config(row))}"
    return name


def _seconds(row: Row) -> float | None:
    """Seconds to fit and to score; None where one is not known, or nothing."""
    fit = row.metrics["fit_seconds"].value
    score = row.metrics["score_seconds"].value
    if fit is None or score is None or fit + score <= 0:
        return None
    return fit + score


def front(of_one: Sequence[Point]) -> list[Point]:
    """Returns the points than which none is both cheaper and better, the cheapest first."""
    kept: list[Point] = []
    highest = float("-inf")
    for place in sorted(of_one, key=_cost):
        value = place.auroc.value
        if value is not None and value > highest:
            kept.append(place)
            highest = value
    return kept


def cost_figure(detections: Sequence[Row], costs: Sequence[Row]) -> Figure:
    """Draws one panel for each detector that reads influence: a point for each estimator.

    Seconds are on a logarithmic axis. The steps join the estimators than which none is both cheaper
    and better; a dashed line is the best detector that reads no influence.

    Args:
        detections: rows over seeds and attacks, or over seeds where there is one attack.
        costs: rows of the estimators.
    """
    found = points(detections, costs)
    if not found:
        return saying("no detector has an AUROC with an estimator whose cost is known")
    best = {detector: _highest(places) for detector, places in found.items()}
    chosen, note = largest(best, "AUROC")
    rival = _best_without(detections)
    every = [place for detector in chosen for place in found[detector]]
    used = {place.estimator for place in every}
    numbers = {name: index for index, name in enumerate(sorted(used, key=natural))}
    handles = _handles(numbers, rival)
    figure, axes, in_line = panels(
        len(chosen), (3.0, 2.7), handles, note, sharex=True, sharey=True
    )
    for ax, detector in zip(axes, chosen, strict=True):
        ax.set_title(plain(detector), fontsize=9, loc="left")
        _panel(ax, found[detector], numbers, rival)
    _scale(axes[0], [place.seconds for place in every])
    label_outer(axes, in_line, "seconds of the estimator, a scene", "AUROC")
    return figure


def _highest(of_one: Iterable[Point]) -> float:
    return max(place.auroc.value or 0.0 for place in of_one)


def _best_without(detections: Sequence[Row]) -> tuple[str, float] | None:
    """The best detector that reads no influence, and its AUROC; None where there is none."""
    names = RowNames.of(detections)
    by_name: dict[str, list[Row]] = {}
    for row in detections:
        if names.method(row, "estimator") != NO_INFLUENCE:
            continue
        if row.metrics["auroc"].value is not None:
            by_name.setdefault(names.method(row, "detector"), []).append(row)
    if not by_name:
        return None
    means = {name: mean_auroc(rows) for name, rows in by_name.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def _handles(
    numbers: Mapping[str, int], rival: tuple[str, float] | None
) -> list[Line2D]:
    """The entries of the legend."""
    found = []
    for name, index in numbers.items():
        label = plain(name)
        found.append(Line2D([], [], label=label, markersize=5.5, **point(index)))
    if rival is not None:
        label = plain(f"{rival[0]} (no influence): {rival[1]:.3f}")
        line = Line2D([], [], label=label, color="0.25", linestyle=(0, (1.2, 1.2)))
        found.append(line)
    return [*found, chance()]


def _panel(
    ax: Axes,
    of_one: Sequence[Point],
    numbers: Mapping[str, int],
    rival: tuple[str, float] | None,
) -> None:
    """Draws the points of one detector."""
    ax.axhline(0.5, zorder=1, **CHANCE)
    if rival is not None:
        ax.axhline(rival[1], color="0.25", linewidth=1.2, linestyle=(0, (1.2, 1.2)))
    steps = front(of_one)
    heights = [place.auroc.value or 0.0 for place in steps]
    seconds = [place.seconds for place in steps]
    ax.step(seconds, heights, where="post", color="0.7", linewidth=1, zorder=1)
    for place in of_one:
        style = point(numbers[place.estimator])
        assert place.auroc.value is not None
        if place.auroc.interval:
            ends = place.auroc.interval
            ax.vlines(place.seconds, *ends, color=style["color"], alpha=0.45)
        ax.plot(
            [place.seconds],
            [place.auroc.value],
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
            **style,
        )
    ax.set_ylim(-0.03, 1.03)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    plain_axes(ax)


def _scale(ax: Axes, seconds: Sequence[float]) -> None:
    """Makes the axis of seconds logarithmic, over a decade at least, with plain numbers."""
    middle = math.sqrt(min(seconds) * max(seconds))
    least = min(min(seconds) / 1.5, middle / 4)
    most = max(max(seconds) * 1.5, middle * 4)
    ax.set_xscale("log")
    ax.set_xlim(least, most)
    steps = (1.0, 2.0, 5.0) if most / least < FEW_DECADES else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
