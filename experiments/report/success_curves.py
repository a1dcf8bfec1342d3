"""Attack success and clean accuracy against a hyperparameter of the attack, from the logs alone: how much poison is enough."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from experiments.evaluation.detection import scene_rows
from experiments.evaluation.load import Results
from experiments.evaluation.names import natural, scene_config, short_names
from experiments.evaluation.rows import Row, aggregate
from experiments.report.style import COLOURS, STYLES, save
from poisonbench.errors import ConfigError

SHARES = ("budget", "cover")  # fractions of the training set, shown in per cent
MARKERS = "osD^vPX*"


def curves(rows: Sequence[Row], axis: str) -> dict[str, list[tuple[float, Row]]]:
    """Returns the curves that the rows make along `axis`, by name and each ascending; a single point is no curve.

    Args:
        rows: of the victims, over seeds, from `aggregate`.
        axis: a numeric hyperparameter of the attacks.

    Raises:
        ConfigError: no attack has two values of it.
    """
    able = [row for row in rows if _is_number(row.settings["attack"].get(axis))]
    rest = [
        {key: value for key, value in row.settings["attack"].items() if key != axis} for row in able
    ]
    name, scene = short_names(rest), short_names(scene_config(row) for row in able)
    several = len({scene(scene_config(row)) for row in able}) > 1
    found: dict[str, list[tuple[float, Row]]] = {}
    for row, config in zip(able, rest, strict=True):
        label = name(config) + (f", {scene(scene_config(row))}" if several else "")
        found.setdefault(label, []).append((float(row.settings["attack"][axis]), row))
    whole = {
        label: sorted(found[label], key=lambda point: point[0])
        for label in sorted(found, key=natural)
        if found[label][1:]
    }
    if not whole:
        numeric = {
            key
            for row in rows
            for key, value in row.settings["attack"].items()
            if _is_number(value)
        }
        known = ", ".join(sorted(numeric)) or "none"
        raise ConfigError(
            [f"no attack in the logs has two values of {axis!r} or more"],
            f"numeric hyperparameters: {known}",
        )
    return whole


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def curve_figure(rows: Sequence[Row], axis: str = "budget") -> Figure:
    """Draws attack success above and clean accuracy below against `axis`, means over seeds with their 95 % bands.

    The victims without poison, where there are any, are a line across the lower panel.

    Raises:
        ConfigError: no attack has two values of `axis`.
    """
    found = curves(rows, axis)
    figure = Figure(figsize=(6.4, 5.2 + 0.2 * len(found)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    for i, (label, points) in enumerate(found.items()):
        look = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": STYLES[i % len(STYLES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        for ax, key in ((upper, "asr"), (lower, "clean_accuracy")):
            _curve(ax, points, key, label, look)
    for row in rows:
        if (
            row.settings["attack"]["name"] == "none"
            and (value := row.metrics["clean_accuracy"].value) is not None
        ):
            lower.axhline(value, color="0.45", linewidth=1, linestyle=":", label="no poison")
    places = sorted({x for points in found.values() for x, _ in points})
    _axes(upper, lower, axis, places)
    handles = {
        text: handle for handle, text in zip(*lower.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles, loc="outside lower center", fontsize=8.5, frameon=False, ncols=2
    )
    return figure


def _curve(
    ax: Axes, points: list[tuple[float, Row]], key: str, label: str, look: dict[str, Any]
) -> None:
    """Draws the points at which the metric is defined, and the band of their intervals."""
    drawn: list[tuple[float, float, float, float]] = []
    for x, row in points:
        metric = row.metrics[key]
        if metric.value is not None:
            drawn.append((x, metric.value, *(metric.interval or (metric.value, metric.value))))
    places, values, low, high = np.array(drawn).reshape(-1, 4).T
    ax.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)
    ax.plot(places, values, linewidth=1.7, markersize=4.5, label=label, **look)


def _axes(upper: Axes, lower: Axes, axis: str, places: list[float]) -> None:
    if places[0] > 0 and places[-1] >= 10 * places[0]:
        lower.set_xscale("log")
    scale, unit = (100, " (% of the training rows)") if axis in SHARES else (1, "")
    lower.xaxis.set_major_locator(FixedLocator(places))
    lower.xaxis.set_minor_locator(NullLocator())
    lower.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{scale * x:g}"))
    lower.set_xlabel(f"{axis}{unit}", fontsize=9)
    upper.set_ylabel("attack success rate", fontsize=9)
    lower.set_ylabel("clean accuracy", fontsize=9)
    upper.set_ylim(-0.02, 1.02)
    for ax in (upper, lower):
        ax.tick_params(labelsize=8, color="0.6", length=3)
        ax.grid(color="0.92", linewidth=0.7)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color("0.6")


def curve(results: Results, path: Path, axis: str = "budget") -> Path:
    """Saves `curve_figure` of the victims in the logs, averaged over the seeds."""
    return save(curve_figure(aggregate(scene_rows(results)[0]), axis), path)
