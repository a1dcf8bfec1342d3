"""How the influences on one prediction are distributed, with the poison marked.

Of an attacked test point and of a clean one, by each estimator: does the poison stand out?
"""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.report.explanation.ranked import most_helpful
from experiments.report.pictures.influence_scene import Chosen
from experiments.report.pictures.legend import legend_below
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.pictures.panels import saying
from poisonbench.log import Record, names
from poisonbench.roles import ATTACKED, COVER, JUDGED, POISON, UNTOLD

BINS = 60
TOP = 10  # most influential rows whose roles are told
CLEAN_COLOUR = "#B4B4B4"
POISON_COLOUR = "#D55E00"
COVER_COLOUR = "#56B4E9"


def distribution_figure(shown: Chosen) -> Figure:
    """Draws the histogram of the influences on each point (a line) by each estimator (a column).

    Counts are on a logarithmic axis, so that a few rows far out are seen; ticks below the axis are
    the single poison rows.
    """
    if not shown.influences or not shown.points:
        return saying("no scene has influence scores")
    lines = len(shown.points)
    columns = len(shown.influences)
    size = (max(4.6, 3.3 * columns), 2.5 * lines + 0.75)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(plain(shown.title), fontsize=9, x=0.01, ha="left")
    grid = figure.subplots(lines, columns, squeeze=False)
    role = shown.scene.data[names.POISON_ROLE]
    for line, point in enumerate(shown.points):
        for column, record in enumerate(shown.influences):
            ax = grid[line, column]
            values = record.data[names.INFLUENCE][line]
            _draw(ax, values, role)
            told = _told(shown.scene, point, values)
            head = f"{plain(shown.labels[column])}\n{told}"
            ax.set_title(head, fontsize=8, loc="left")
            if line == lines - 1:
                ax.set_xlabel("influence on the prediction", fontsize=8.5)
        grid[line, 0].set_ylabel("training rows", fontsize=8.5)
    legend_below(figure, _handles(role))
    return figure


def _told(scene: Record, point: int, values: NDArray[Any]) -> str:
    """What a point is, and how much poison is among its most influential rows."""
    data = scene.data
    group = data[names.PROBE_GROUP][point]
    if group == JUDGED:
        return f"point {point}"
    role = data[names.POISON_ROLE]
    rows = most_helpful(values, TOP)
    poison = int((role[rows] == POISON).sum())
    kind = "attacked" if group == ATTACKED else "clean"
    seen = (
        f"{int(data[names.PROBE_Y][point])}→{int(data[names.PROBE_PREDICTED][point])}"
    )
    return f"{kind} ({seen}), {poison} of top {len(rows)} poison"


def _draw(ax: Axes, values: NDArray[Any], role: NDArray[Any]) -> None:
    """Draws the histogram of one row of an influence matrix."""
    finite = np.isfinite(values)
    lost = int((~finite).sum())
    kept = values[finite].astype(np.float64)
    roles = role[finite]
    if len(kept):
        edges = np.histogram_bin_edges(kept, bins=BINS).tolist()
        others = kept[(roles != POISON) & (roles != COVER)]
        ax.hist(others, edges, color=CLEAN_COLOUR)
        poison = kept[roles == POISON]
        cover = kept[roles == COVER]
        for rows, colour, hatch in (
            (cover, COVER_COLOUR, "...."),
            (poison, POISON_COLOUR, "////"),
        ):
            if len(rows):
                ax.hist(rows, edges, facecolor="none", edgecolor=colour, hatch=hatch)
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5)
        style: dict[str, Any] = {
            "marker": "|",
            "markersize": 7,
            "linestyle": "",
            "clip_on": False,
        }
        ax.plot(
            poison,
            np.full(len(poison), -0.03),
            transform=ax.get_xaxis_transform(),
            color=POISON_COLOUR,
            **style,
        )
    if lost:
        ax.text(
            0.98,
            0.95,
            f"{lost} not finite",
            transform=ax.transAxes,
            ha="right",
            va="top",
            fontsize=7.5,
        )
    plain_axes(ax)
    ax.tick_params(axis="x", pad=7)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)


def _handles(role: NDArray[Any]) -> list[Artist]:
    """The entries of the legend, for the roles that there are."""
    if (role == UNTOLD).any():
        return []
    found: list[Artist] = [Patch(color=CLEAN_COLOUR, label="clean rows")]
    count = int((role == POISON).sum())
    if count:
        found.append(_hatched(f"poison rows ({count})", POISON_COLOUR, "////"))
        tick = Line2D([], [], label="single poison rows", color=POISON_COLOUR)
        tick.set(marker="|", linestyle="")
        found.append(tick)
    if (role == COVER).any():
        found.append(_hatched("cover rows", COVER_COLOUR, "...."))
    return found


def _hatched(label: str, colour: str, hatch: str) -> Patch:
    """An entry of the legend."""
    return Patch(label=label, facecolor="none", edgecolor=colour, hatch=hatch)
