"""Panels of equal size, and what stands where there is nothing to draw."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.names import natural
from experiments.report.pictures.look import plain
from experiments.report.plots.methods import legend_below, legend_height

NARROWEST = 4.6  # inches
MOST = 9  # panels


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
    """Returns the names that get a panel, in their order, and a note that counts the others.

    Args:
        values: by name; those of the largest get a panel.
        what: the values are.
    """
    best = sorted(values, key=lambda name: -values[name])
    chosen = sorted(best[:MOST], key=natural)
    left = len(best) - len(chosen)
    if not left:
        return chosen, ""
    return chosen, f"{left} of {len(best)} detectors, of lowest {what}, are not drawn"


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
    figure = Figure(figsize=(4.6, 1.6), layout="constrained")
    figure.text(0.5, 0.5, plain(text), ha="center", va="center", color="0.3")
    return figure
