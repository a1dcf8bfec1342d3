"""Accuracy against the share removed, a panel for each kind of noise, with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.cleaning.outcome import FLOOR, Outcome
from experiments.report.pictures.legend import legend_below, legend_height
from experiments.report.pictures.look import Look, plain, plain_axes, save

WIDTH = 3.4  # inches of a panel
HEIGHT = 2.75
MOST_COLUMNS = 3
NOTE = "bars: 95 % intervals over points and seeds"
PLANTED: dict[str, Any] = {"color": "0.55", "linewidth": 1, "linestyle": (0, (1, 1.5))}
APART = 0.08  # of the distance between shares, between the bars of two criteria


def draw(found: Sequence[Outcome], path: Path) -> Path:
    """Saves the figure in the format of the suffix, without a display.

    Raises:
        ConfigError: the file cannot be written.
    """
    columns = min(len(found), MOST_COLUMNS)
    rows = -(-len(found) // columns)
    width = WIDTH * columns
    legend = _legend(found)
    height = HEIGHT * rows + legend_height(legend, width, NOTE)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for panel, outcome in zip(panels, found, strict=False):
        _panel(panel, outcome)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    legend_below(figure, legend, NOTE)
    return save(figure, path)


def _legend(found: Sequence[Outcome]) -> list[Artist]:
    """The entries of the criteria, in their order, and of the share planted."""
    entries: list[Artist] = [
        Line2D([], [], label=plain(curve.criterion), **_style(number, curve.criterion))
        for number, curve in enumerate(found[0].curves)
    ]
    if any(outcome.planted for outcome in found):
        entries.append(Line2D([], [], label="share of rows planted", **PLANTED))
    return entries


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
    """Draws the curves, the points of one share side by side."""
    shares = np.array(outcome.shares)
    step = min(np.diff(np.sort(shares)), default=0.0)
    for number, curve in enumerate(outcome.curves):
        values = [metric.value or 0.0 for metric in curve.accuracy]
        beside = APART * (number - (len(outcome.curves) - 1) / 2)
        places = shares + beside * step
        style = _style(number, curve.criterion)
        panel.plot(places, values, **style)
        for place, metric in zip(places, curve.accuracy, strict=True):
            if metric.interval:
                panel.vlines(place, *metric.interval, color=style["color"], linewidth=1)
    share = outcome.planted / outcome.rows
    if share:
        panel.axvline(share, zorder=0, **PLANTED)
    panel.set_title(_head(outcome), fontsize=8)
    panel.set_xlabel("share of the training rows removed", fontsize=8)
    panel.set_ylabel("test accuracy", fontsize=8)
    plain_axes(panel)


def _head(outcome: Outcome) -> str:
    """What a panel is of, in two lines, which fit its width."""
    rows = outcome.rows // len(outcome.seeds)
    seeds = ", ".join(map(str, outcome.seeds))
    word = "seed" if len(outcome.seeds) == 1 else "seeds"
    return f"{plain(outcome.noise)}\n{rows:,} rows, {word} {seeds}"
