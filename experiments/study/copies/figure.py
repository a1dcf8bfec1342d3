"""One of many copies against all of them: by training again, and by estimators."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.copies.found import TRUTH, Found
from experiments.study.copies.tables import grown
from experiments.study.means import mean
from poisonbench.log import Array

SIZE = (13, 4.1)  # inches
COLOURS = mpl.colormaps["tab10"]
MARKERS = "osD^v<>Pp*"


def draw(
    found: Found,
    path: Path,
) -> None:
    """Saves the figure, without a display."""
    with mpl.rc_context({"svg.hashsalt": "copies", "font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _truth(left, found)
        _relative(middle, found, "one")
        _relative(right, found, "every")
        figure.savefig(path, dpi=150)


def _truth(
    panel: Axes,
    found: Found,
) -> None:
    """Influence of one copy and of all by training again, with bands over instances."""
    for number, kind in enumerate(found.known_kinds()):
        one, every = found.of(TRUTH, kind)
        colour = COLOURS(number)
        _curve(
            panel,
            found.counts,
            every,
            f"all copies, {kind}",
            colour,
            "-",
        )
        _curve(
            panel,
            found.counts,
            one,
            f"one of them, {kind}",
            colour,
            "--",
        )
    _copies(panel, found)
    panel.set_ylabel("loss without them less loss with them")
    panel.set_title("by training again")
    panel.legend(fontsize=7, frameon=False)


def _curve(
    panel: Axes,
    counts: tuple[int, ...],
    values: Array,
    label: str,
    colour: object,
    line: str,
) -> None:
    means = [mean(column) for column in values.T]
    middle = [one.value for one in means]
    low = [one.low for one in means]
    high = [one.high for one in means]
    panel.plot(
        counts, middle, line, color=colour, marker="o", markersize=3, label=label
    )
    panel.fill_between(
        counts,
        low,
        high,
        color=colour,
        alpha=0.12,
        linewidth=0,
    )


def _relative(
    panel: Axes,
    found: Found,
    which: str,
) -> None:
    """What each source says of c copies, where its answer for a single copy is 1."""
    for number, name in enumerate(found.names):
        is_truth = name == TRUTH
        panel.plot(
            found.counts,
            grown(found, name, which),
            "-",
            color="black" if is_truth else COLOURS((number - 1) % COLOURS.N),
            linewidth=2.4 if is_truth else 1.2,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=name,
        )
    _copies(panel, found)
    if which == "one":
        panel.set_yscale("symlog", linthresh=0.1)
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
