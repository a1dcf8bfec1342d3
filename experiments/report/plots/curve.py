"""Attack success and clean accuracy against a hyperparameter of the attack: how much is enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.names import RowNames, ShortNames, natural, scene_config
from experiments.evaluation.rows import Row
from experiments.report.pictures.legend import first_of, wrapped
from experiments.report.pictures.look import Look, plain
from experiments.report.plots.curve_axes import scale, shown
from experiments.report.plots.left_out import seeds_of
from poisonbench.errors import ConfigError

WIDTH = 6.4  # inches


@dataclass(frozen=True, eq=False)
class Point:
    """A point of a curve.

    Attributes:
        asked: the value in the grid.
        x: where it is drawn: for a budget the share of rows that the attack poisoned, mean over
            seeds.
        row: the victims there, over seeds.
    """

    asked: float
    x: float
    row: Row

    @property
    def missed(self) -> bool:
        """Whether a budget was asked that the attack did not reach, or exceeded."""
        if self.x == self.asked:
            return False
        return any(scene.missed for scene in self.row.poisoned)


def curves(rows: Sequence[Row], axis: str) -> dict[str, list[Point]]:
    """Returns the curves that the rows make along `axis`, by name; a single point is no curve.

    Args:
        rows: of the victims, over seeds, from `aggregate`.
        axis: a numeric hyperparameter of the attacks.

    Returns:
        The points of each, ascending by the value asked.

    Raises:
        ConfigError: no attack has two values of it.
    """
    able = [row for row in rows if _is_number(row.settings["attack"].get(axis))]
    found = _by_name(rows, able, axis)
    whole = {}
    for label in sorted(found, key=natural):
        points = found[label]
        if len(points) > 1:
            whole[label] = sorted(points, key=_asked)
    if not whole:
        what = f"no attack in the logs has two values of {axis!r} or more"
        raise ConfigError([what], f"numeric hyperparameters: {_numeric_fields(rows)}")
    return whole


def _by_name(
    rows: Sequence[Row], able: Sequence[Row], axis: str
) -> dict[str, list[Point]]:
    """The points of the able rows, with the names that tell all rows apart."""
    attacks = ShortNames.of(_without(row, axis) for row in rows)
    scenes = ShortNames.of(scene_config(row) for row in rows)
    different = {scenes.name(scene_config(row)) for row in rows}
    several_scenes = len(different) > 1
    found: dict[str, list[Point]] = {}
    for row in able:
        label = attacks.name(_without(row, axis))
        if several_scenes:
            label = f"{label}, {scenes.name(scene_config(row))}"
        found.setdefault(label, []).append(_point(row, axis))
    return found


def _note(rows: Sequence[Row], found: Mapping[str, Sequence[Point]], axis: str) -> str:
    """What the bands are, and which attacks are not drawn."""
    drawn = {id(point.row) for points in found.values() for point in points}
    names = RowNames.of(rows, ())
    left = [
        names.attack(row)
        for row in rows
        if id(row) not in drawn and row.settings["attack"]["name"] != "none"
    ]
    note = f"bands: 95 % intervals, {seeds_of(rows)}"
    if left:
        note += f"\nnot drawn, for one value of {axis} or none: {first_of(left)}"
    return note


def _point(row: Row, axis: str) -> Point:
    asked = float(row.settings["attack"][axis])
    if axis != "budget" or not any(scene.missed for scene in row.poisoned):
        return Point(asked, asked, row)
    share = float(np.mean([scene.share for scene in row.poisoned]))
    return Point(asked, share, row)


def _asked(point: Point) -> float:
    """A sort key."""
    return point.asked


def _without(row: Row, axis: str) -> dict[str, object]:
    rest = dict(row.settings["attack"])
    rest.pop(axis, None)
    return rest


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numeric_fields(rows: Sequence[Row]) -> str:
    fields = set()
    for row in rows:
        attack = row.settings["attack"]
        fields |= {key for key, value in attack.items() if _is_number(value)}
    return ", ".join(sorted(fields)) or "none"


def curve_figure(rows: Sequence[Row], axis: str = "budget") -> Figure:
    """Draws attack success above and clean accuracy below against `axis`.

    Means over seeds with their 95 % bands; a note says over how many, and which attacks are not
    drawn. A point whose budget was missed stands at the share of
    rows that was poisoned, and says what was asked. The victims without poison, where there are
    any, are a line across the lower panel.

    Raises:
        ConfigError: no attack has two values of `axis`.
    """
    found = curves(rows, axis)
    note = _note(rows, found, axis)
    lines = len(found) + len(wrapped(note, WIDTH).splitlines())
    figure = Figure(figsize=(WIDTH, 5.1 + 0.2 * lines), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for index, (label, points) in enumerate(found.items()):
        look = Look.number(index)
        _draw(upper, points, "asr", label, look)
        _draw(lower, points, "clean_accuracy", label, look)
        _mark_missed(upper, points, axis, look)
    for row in rows:
        accuracy = row.metrics["clean_accuracy"].value
        if row.settings["attack"]["name"] == "none" and accuracy is not None:
            lower.axhline(
                accuracy, color="0.45", linewidth=1, linestyle=":", label="no poison"
            )
    used = {point.x for points in found.values() for point in points}
    scale(upper, lower, axis, used)
    handles, texts = lower.get_legend_handles_labels()
    once = dict(zip(texts, handles, strict=True))
    figure.legend(
        once.values(),
        once,
        loc="outside lower center",
        fontsize=8.5,
        frameon=False,
        ncols=2,
        title=wrapped(note, WIDTH),
        title_fontsize=8,
    )
    return figure


def _draw(ax: Axes, points: Sequence[Point], key: str, label: str, look: Look) -> None:
    """Draws the points at which the metric is defined, and the band of their intervals."""
    places = []
    values = []
    low = []
    high = []
    for point in points:
        metric = point.row.metrics[key]
        if metric.value is not None:
            ends = metric.interval or (metric.value, metric.value)
            places.append(point.x)
            values.append(metric.value)
            low.append(ends[0])
            high.append(ends[1])
    ax.fill_between(places, low, high, color=look.colour, alpha=0.15, linewidth=0)
    ax.plot(
        places,
        values,
        color=look.colour,
        linestyle=look.style,
        marker=look.marker,
        linewidth=1.7,
        markersize=4.5,
        label=plain(label),
    )


def _mark_missed(ax: Axes, points: Sequence[Point], axis: str, look: Look) -> None:
    """Writes beside each point whose budget was missed what was asked."""
    for point in points:
        rate = point.row.metrics["asr"].value
        if point.missed and rate is not None:
            ax.annotate(
                f"asked {shown(point.asked, axis)} %",
                (point.x, rate),
                xytext=(4, -9),
                textcoords="offset points",
                fontsize=7,
                color=look.colour,
            )
