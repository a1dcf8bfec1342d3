"""Recall of the ten most influential rows over speed-up, a panel for each size of a batch."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bench.screening.race import Entry, Reference
from experiments.report.pictures.look import save

PANEL = 3.4  # inches
HEIGHT = 3.4
GOAL_RECALL = 0.99
GOAL_SPEED = 10.0
TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def draw(
    exact: Reference,
    entries: Sequence[Entry],
    sizes: Sequence[int],
    path: Path,
) -> None:
    """Saves the figure without a display; entries of one way but for its last word are a line."""
    shown = [entry for entry in entries if entry.of == exact.of]
    with mpl.rc_context({"font.size": 9}):
        width = PANEL * len(sizes) + 1.6
        figure = Figure(figsize=(width, HEIGHT), layout="constrained")
        panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
        for panel, size in zip(panels, sizes, strict=True):
            _panel(panel, exact, shown, size)
        panels[0].set_ylabel("recall of the ten largest")
        lines, names = panels[-1].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside right center", frameon=False)
        save(figure, path)


def _panel(panel: Axes, exact: Reference, entries: Sequence[Entry], size: int) -> None:
    groups: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        name, _, _ = entry.way.rpartition(",")
        speed = exact.seconds[size] / entry.seconds[size]
        share = float(entry.recall.mean())
        groups.setdefault(name, [])
        groups[name].append((speed, share))
    for name, points in groups.items():
        solid = name.startswith("projection")
        speeds = [speed for speed, _ in points]
        shares = [share for _, share in points]
        panel.plot(
            speeds,
            shares,
            "o-" if solid else "s:",
            label=name,
            markersize=4,
            linewidth=1.2,
        )
    panel.axhline(GOAL_RECALL, color="0.8", linewidth=1, zorder=0)
    panel.axvline(GOAL_SPEED, color="0.8", linewidth=1, zorder=0)
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlabel("times faster than all rows")
    panel.set_title(f"{size} point{'s' if size > 1 else ''} at a time")
