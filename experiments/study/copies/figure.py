"""One of many copies against all of them: by training again, and by estimators."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.look import Look, save
from experiments.study.copies.found import TRUTH, Found
from experiments.study.copies.tables import grown
from experiments.study.looks import styles
from experiments.study.means import mean
from poisonbench.log import Array

SIZE = (13, 4.1)  # inches
APART = 1.06  # factor between the places of two kinds


def draw(
    found: Found,
    path: Path,
) -> None:
    """Saves the figure, without a display."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _truth(left, found)
        _relative(middle, found, "one")
        _relative(right, found, "every")
        save(figure, path)


def _truth(
    panel: Axes,
    found: Found,
) -> None:
    """Influence of one copy and of all by training again, with intervals over instances."""
    for number, kind in enumerate(found.known_kinds()):
        one, every = found.of(TRUTH, kind)
        look = Look.number(number)
        places = np.array(found.counts) * APART**number
        _curve(panel, places, every, look, "-")
        _curve(panel, places, one, look, "--")
        panel.plot([], [], look.marker, color=look.colour, label=kind)
    panel.plot([], [], "-", color="0.3", label="all c copies")
    panel.plot([], [], "--", color="0.3", label="one of them")
    _copies(panel, found)
    low, high = panel.get_ylim()
    panel.set_ylim(low, 1.2 * high)  # room for the legend
    panel.set_ylabel("loss without them less loss with them")
    panel.set_title("by training again")
    panel.legend(
        fontsize=7,
        frameon=False,
        ncols=3,
        loc="upper right",
    )


def _curve(
    panel: Axes,
    places: Array,
    values: Array,
    look: Look,
    line: str,
) -> None:
    means = [mean(column) for column in values.T]
    middle = np.array([one.value for one in means])
    low = np.array([one.low for one in means])
    high = np.array([one.high for one in means])
    panel.errorbar(
        places,
        middle,
        [middle - low, high - middle],
        linestyle=line,
        color=look.colour,
        marker=look.marker,
        markersize=3.5,
        linewidth=1.3,
        elinewidth=0.8,
    )


def _relative(
    panel: Axes,
    found: Found,
    which: str,
) -> None:
    """What each source says of c copies, where its answer for a single copy is 1."""
    looks = styles((name for name in found.names if name != TRUTH), 4.0)
    for name in found.names:
        style: dict[str, Any] = {"color": "black", "linewidth": 3}
        if name != TRUTH:
            style = {**looks[name], "linewidth": 1.2}
        panel.plot(found.counts, grown(found, name, which), label=name, **style)
    _copies(panel, found)
    if which == "one":
        panel.set_yscale("symlog", linthresh=0.1)
        panel.set_ylim(-0.05, 1.3)
        panel.axhline(0, color="0.8", linewidth=1)
        panel.set_title("one of c copies")
        panel.set_ylabel("influence, that of a single copy = 1")
        return
    counts = np.array(found.counts)
    panel.plot(
        counts,
        counts,
        ":",
        color="0.5",
        label="c times a single copy",
    )
    panel.set_yscale("log", base=2)
    panel.set_title("all c copies")
    panel.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _copies(
    panel: Axes,
    found: Found,
) -> None:
    panel.set_xscale("log", base=2)
    panel.set_xticks(found.counts, [str(count) for count in found.counts])
    panel.set_xlabel("copies in the training set, c")
