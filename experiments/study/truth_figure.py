"""Accuracy against cost: the linear datamodeling score of every estimator over its seconds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.study.judged import SUBSETS, Judged

WIDTH = 6.0  # inches of a panel
HEIGHT = 4.5
LEAST = 1e-3  # seconds, below which costs are drawn alike


def draw(found: Mapping[str, Sequence[Judged]], path: Path) -> None:
    """Saves the figure, a panel for each kind of scene, without a display."""
    with mpl.rc_context({"svg.hashsalt": "truth", "font.size": 9}):
        figure = Figure(figsize=(WIDTH * len(found), HEIGHT), layout="constrained")
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for panel, (scene, estimators) in zip(panels, found.items(), strict=True):
            _panel(panel, scene, estimators)
        figure.savefig(path)


def _panel(panel: Axes, scene: str, estimators: Sequence[Judged]) -> None:
    for one in estimators:
        metric = one.metric(SUBSETS, "score")
        if metric.value is None:
            continue
        seconds = max(one.seconds, LEAST)
        low, high = metric.interval or (metric.value, metric.value)
        panel.plot([seconds, seconds], [low, high], color="0.7", linewidth=1)
        panel.plot([seconds], [metric.value], "o", markersize=5)
        panel.annotate(
            one.name,
            (seconds, metric.value),
            xytext=(5, 2),
            textcoords="offset points",
            fontsize=7,
        )
    panel.set_xscale("log")
    panel.axhline(0, color="0.85", linewidth=1)
    panel.set_xlabel("seconds to prepare and to score the points")
    panel.set_ylabel("linear datamodeling score")
    panel.set_title(scene)
