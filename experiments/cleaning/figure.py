"""Accuracy against the share removed, a panel for each kind of noise.

Intervals are in the tables.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.cleaning.outcome import FLOOR, Outcome
from experiments.report.pictures.look import Look, plain, plain_axes, save
from experiments.report.plots.methods import legend_below, legend_height

WIDTH = 3.4  # inches of a panel
HEIGHT = 2.6
MOST_COLUMNS = 3


def draw(found: Sequence[Outcome], path: Path) -> Path:
    """Saves the figure in the format of the suffix, without a display.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = min(len(found), MOST_COLUMNS)
    rows = -(-len(found) // columns)
    width = WIDTH * columns
    legend = _legend(found[0])
    height = HEIGHT * rows + legend_height(legend, width)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for panel, outcome in zip(panels, found, strict=False):
        _panel(panel, outcome)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    legend_below(figure, legend)
    return save(figure, path)


def _legend(outcome: Outcome) -> list[Artist]:
    """The entries of the criteria, in their order."""
    return [
        Line2D([], [], label=plain(curve.criterion), **_style(number, curve.criterion))
        for number, curve in enumerate(outcome.curves)
    ]


def _style(number: int, criterion: str) -> dict[str, Any]:
    """How the line of a criterion looks; random removal is a broad band below the others."""
    if criterion == FLOOR:
        return {
            "color": "0.75",
            "linewidth": 5,
            "solid_capstyle": "round",
            "zorder": 1,
        }
    look = Look.number(number)
    return {
        "color": look.colour,
        "linestyle": look.style,
        "marker": look.marker,
        "markersize": 4,
        "linewidth": 1.5,
    }


def _panel(panel: Axes, outcome: Outcome) -> None:
    for number, curve in enumerate(outcome.curves):
        values = [metric.value or 0.0 for metric in curve.accuracy]
        panel.plot(outcome.shares, values, **_style(number, curve.criterion))
    share = outcome.planted / outcome.rows
    if share:
        panel.axvline(share, color="0.75", linewidth=1, zorder=0)
    panel.set_title(plain(outcome.noise), fontsize=8)
    panel.set_xlabel("share of the training rows removed", fontsize=8)
    panel.set_ylabel("test accuracy", fontsize=8)
    plain_axes(panel)
