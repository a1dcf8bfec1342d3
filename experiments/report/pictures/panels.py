"""Panels of equal size, and what stands where there is nothing to draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.evaluation.names import natural
from experiments.report.pictures.legend import (
    first_of,
    legend_below,
    legend_height,
    wrapped,
)

NARROWEST = 4.6  # inches
MOST = 9  # panels
FEW_DECADES = 50.0  # up to which the axis of seconds has a tick at 2 and at 5, too


def panels(
    count: int,
    size: tuple[float, float],
    handles: Sequence[Artist],
    note: str = "",
    **how: Any,
) -> tuple[Figure, list[Axes], int]:
    """Returns a figure of panels that fill their lines, the panels, and how many are in a line.

    Args:
        count: of panels, at least 1.
        size: width and height of one, in inches.
        handles: entries of the legend below them.
        note: above the legend.
        how: what else `Figure.subplots` is told.
    """
    columns = 2 if count == 4 else min(3, count)
    lines = math.ceil(count / columns)
    width = max(NARROWEST, size[0] * columns)
    height = size[1] * lines + legend_height(handles, width, note)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, **how).ravel()
    for ax in grid[count:]:
        ax.remove()
    legend_below(figure, handles, note)
    return figure, list(grid[:count]), columns


def largest(values: Mapping[str, float], what: str) -> tuple[list[str], str]:
    """Returns the names that get a panel, in their order, and a note that names the others.

    Args:
        values: by name; those of the largest get a panel.
        what: the values are.
    """
    best = sorted(values, key=lambda name: -values[name])
    chosen = sorted(best[:MOST], key=natural)
    left = sorted(best[MOST:], key=natural)
    if not left:
        return chosen, ""
    count = f"{len(left)} of {len(best)} detectors, of lowest {what}, are not drawn"
    return chosen, f"{count}: {first_of(left)}"


def label_outer(axes: Sequence[Axes], columns: int, x: str, y: str) -> None:
    """Labels the lowest panel of each column and the first of each line."""
    for index, ax in enumerate(axes):
        if index + columns >= len(axes):
            ax.set_xlabel(x, fontsize=8.5)
            ax.tick_params(labelbottom=True)
        if index % columns == 0:
            ax.set_ylabel(y, fontsize=8.5)


def saying(text: str) -> Figure:
    """Returns a figure that says why there is nothing in it."""
    shown = wrapped(text, NARROWEST - 0.8)
    height = 1.2 + 0.2 * len(shown.splitlines())
    figure = Figure(figsize=(NARROWEST, height), layout="constrained")
    figure.text(0.5, 0.5, shown, ha="center", va="center", color="0.3")
    return figure


def scale_seconds(ax: Axes, seconds: Sequence[float]) -> None:
    """Makes an axis of seconds logarithmic, over a decade at least, with plain numbers."""
    middle = math.sqrt(min(seconds) * max(seconds))
    least = min(min(seconds) / 1.5, middle / 4)
    most = max(max(seconds) * 1.5, middle * 4)
    ax.set_xscale("log")
    ax.set_xlim(least, most)
    steps = (1.0, 2.0, 5.0) if most / least < FEW_DECADES else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
