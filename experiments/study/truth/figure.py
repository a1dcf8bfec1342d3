"""Accuracy against cost: the linear datamodeling score of every estimator over its seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.truth.judged import SUBSETS, Judged

WIDTH = 7.5  # inches of a panel with its legend
HEIGHT = 4.2
LEAST = 1e-3  # seconds, below which costs are drawn alike
COLOURS = mpl.colormaps["tab10"]


def draw(found: Mapping[str, Sequence[Judged]], path: Path) -> None:
    """Saves the figure without a display: the kinds of scene below one another."""
    colours = _colours(found)
    with mpl.rc_context({"svg.hashsalt": "truth", "font.size": 9}):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(found)), layout="constrained")
        panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for panel, (scene, estimators) in zip(panels, found.items(), strict=True):
            _panel(panel, scene, estimators, colours)
        figure.savefig(path, dpi=150)


def _colours(found: Mapping[str, Sequence[Judged]]) -> dict[str, int]:
    """Returns the number of each method's colour, which is the same in all panels."""
    methods: set[str] = set()
    for estimators in found.values():
        methods.update(_method(one) for one in estimators)
    return {name: number % COLOURS.N for number, name in enumerate(sorted(methods))}


def _method(one: Judged) -> str:
    """The name without the settings."""
    return one.name.split()[0]


def _panel(
    panel: Axes,
    scene: str,
    estimators: Sequence[Judged],
    colours: Mapping[str, int],
) -> None:
    """Numbers the estimators, the best first."""
    for number, one in enumerate(estimators, start=1):
        metric = one.metric(SUBSETS, "score")
        if metric.value is None:
            continue
        colour = COLOURS(colours[_method(one)])
        seconds = max(one.seconds, LEAST)
        low, high = metric.interval or (metric.value, metric.value)
        panel.plot([seconds, seconds], [low, high], color=colour, alpha=0.4)
        panel.plot(
            [seconds],
            [metric.value],
            "o",
            color=colour,
            markersize=5,
            label=f"{number}  {one.name}",
        )
        panel.annotate(
            str(number),
            (seconds, metric.value),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=8,
        )
    panel.set_xscale("log")
    panel.axhline(0, color="0.85", linewidth=1)
    panel.set_xlabel("seconds to prepare and to score the points")
    panel.set_ylabel("linear datamodeling score")
    panel.set_title(scene)
    panel.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False
    )
