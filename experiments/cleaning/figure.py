"""Accuracy against the share removed, a panel for each kind of noise.

Intervals are in the tables.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cleaning.outcome import FLOOR, Outcome
from experiments.report.pictures.look import Look, plain, plain_axes, save

WIDTH = 3.4  # inches of a panel
HEIGHT = 2.6
LINE = 0.2  # of the legend, which has a column for each of the panels
MOST_COLUMNS = 3


def draw(found: Sequence[Outcome], path: Path) -> Path:
    """Saves the figure in the format of the suffix, without a display.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = min(len(found), MOST_COLUMNS)
    rows = -(-len(found) // columns)
    lines_below = -(-len(found[0].curves) // columns)
    size = (WIDTH * columns, HEIGHT * rows + LINE * (lines_below + 1))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for panel, outcome in zip(panels, found, strict=False):
        _panel(panel, outcome)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    lines, words = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        lines,
        words,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    return save(figure, path)


def _panel(panel: Axes, outcome: Outcome) -> None:
    for number, curve in enumerate(outcome.curves):
        values = [metric.value or 0.0 for metric in curve.accuracy]
        if curve.criterion == FLOOR:
            panel.plot(
                outcome.shares,
                values,
                color="0.75",
                linewidth=5,
                solid_capstyle="round",
                zorder=1,
                label=plain(curve.criterion),
            )
            continue
        look = Look.number(number)
        panel.plot(
            outcome.shares,
            values,
            color=look.colour,
            linestyle=look.style,
            marker=look.marker,
            markersize=4,
            linewidth=1.5,
            label=plain(curve.criterion),
        )
    share = outcome.planted / outcome.rows
    if share:
        panel.axvline(share, color="0.75", linewidth=1, zorder=0)
    panel.set_title(plain(outcome.noise), fontsize=8)
    panel.set_xlabel("share of the training rows removed", fontsize=8)
    panel.set_ylabel("test accuracy", fontsize=8)
    plain_axes(panel)
