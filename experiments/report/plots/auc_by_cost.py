"""AUROC against the seconds of the estimator: what does a better influence score cost?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, scene_config
from experiments.evaluation.rows import Row
from experiments.report.pictures.estimator_look import NO_INFLUENCE, numbers, point
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.pictures.panels import (
    label_outer,
    largest,
    panels,
    saying,
    scale_seconds,
)
from experiments.report.plots.left_out import LeftOut, seeds_of
from experiments.report.plots.methods import (
    CHANCE,
    chance,
    mean_auroc,
)

STEPS: dict[str, Any] = {"color": "0.7", "linewidth": 1}


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
    and better; a dotted line is the best detector that reads no influence. A note says over how
    many seeds the intervals are, and what has no point.

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
    looks = numbers(place.estimator for place in every)
    handles = _handles(looks, rival)
    lost = LeftOut.of(detections, RowNames.of(detections)).notes()
    notes = [_told(detections), note, *lost]
    figure, axes, in_line = panels(
        len(chosen),
        (3.0, 2.7),
        handles,
        "\n".join(filter(None, notes)),
        sharex=True,
        sharey=True,
    )
    for ax, detector in zip(axes, chosen, strict=True):
        ax.set_title(plain(detector), fontsize=9, loc="left")
        _panel(ax, found[detector], looks, rival)
    scale_seconds(axes[0], [place.seconds for place in every])
    label_outer(axes, in_line, "seconds per scene (estimator)", "AUROC")
    return figure


def _told(detections: Sequence[Row]) -> str:
    """What the values and bars are."""
    attacks = {_attack(row) for row in detections}
    of_what = f"{attacks.pop()}, " if len(attacks) == 1 else ""
    return f"AUROC: {of_what}{seeds_of(detections)}; bars: 95 % intervals"


def _attack(row: Row) -> str:
    """The attack of a row, which of a mean says of how many."""
    attack = row.settings.get("attack") or {}
    return str(attack.get("name", "all"))


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


def _handles(looks: Mapping[str, int], rival: tuple[str, float] | None) -> list[Line2D]:
    """The entries of the legend."""
    found = []
    for name, index in looks.items():
        label = plain(name)
        found.append(Line2D([], [], label=label, **point(index, 5.5)))
    if rival is not None:
        label = plain(f"{rival[0]} (no influence): {rival[1]:.3f}")
        line = Line2D([], [], label=label, color="0.25", linestyle=(0, (1.2, 1.2)))
        found.append(line)
    steps = Line2D([], [], label="no estimator is cheaper and better", **STEPS)
    return [*found, steps, chance()]


def _panel(
    ax: Axes,
    of_one: Sequence[Point],
    looks: Mapping[str, int],
    rival: tuple[str, float] | None,
) -> None:
    """Draws the points of one detector."""
    ax.axhline(0.5, zorder=1, **CHANCE)
    if rival is not None:
        ax.axhline(rival[1], color="0.25", linewidth=1.2, linestyle=(0, (1.2, 1.2)))
    steps = front(of_one)
    heights = [place.auroc.value or 0.0 for place in steps]
    seconds = [place.seconds for place in steps]
    ax.step(seconds, heights, where="post", zorder=1, **STEPS)
    for place in of_one:
        style = point(looks[place.estimator], 6.0)
        assert place.auroc.value is not None
        if place.auroc.interval:
            ends = place.auroc.interval
            ax.vlines(place.seconds, *ends, color=style["color"], alpha=0.45)
        ax.plot(
            [place.seconds],
            [place.auroc.value],
            markeredgecolor="white",
            markeredgewidth=0.5,
            **style,
        )
    ax.set_ylim(-0.03, 1.03)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    plain_axes(ax)
