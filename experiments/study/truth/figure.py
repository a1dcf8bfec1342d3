"""Accuracy against cost: the linear datamodeling score of every estimator over its seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.metrics import Metric
from experiments.report.pictures.estimator_look import numbers, point
from experiments.report.pictures.look import save
from poisonbench.log import Array

WIDTH = 7.5  # inches of a panel with its legend
HEIGHT = 4.2
LEAST = 1e-3  # seconds, below which costs are drawn alike
SIDES = [(7, 5), (-7, 5), (7, -5), (-7, -5), (0, 8), (0, -8)]
OFFSETS = np.array(SIDES)  # points


@dataclass(frozen=True)
class Placed:
    """An estimator in the figure.

    Attributes:
        name: with the settings that tell it apart.
        score: linear datamodeling score.
        seconds: to fit and to score.
    """

    name: str
    score: Metric
    seconds: float


def draw(found: Mapping[str, Sequence[Placed]], path: Path) -> None:
    """Saves the figure without a display: the kinds of scene below one another."""
    looks = _looks(found)
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(WIDTH, HEIGHT * len(found)), layout="constrained")
        panels = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for panel, (scene, estimators) in zip(panels, found.items(), strict=True):
            _panel(panel, scene, estimators, looks)
        save(figure, path)


def _looks(found: Mapping[str, Sequence[Placed]]) -> dict[str, int]:
    """Returns the number of each method's look, which is the same in all panels."""
    methods: set[str] = set()
    for estimators in found.values():
        methods.update(_method(one) for one in estimators)
    return numbers(methods)


def _method(one: Placed) -> str:
    """The name without the settings."""
    return one.name.split()[0]


def _panel(
    panel: Axes,
    scene: str,
    estimators: Sequence[Placed],
    looks: Mapping[str, int],
) -> None:
    """Numbers the estimators, the best first."""
    seen: dict[int, tuple[float, float]] = {}
    for number, one in enumerate(estimators, start=1):
        metric = one.score
        if metric.value is None:
            continue
        style = point(looks[_method(one)])
        seconds = max(one.seconds, LEAST)
        low, high = metric.interval or (metric.value, metric.value)
        panel.plot([seconds, seconds], [low, high], color=style["color"], alpha=0.4)
        panel.plot(
            [seconds],
            [metric.value],
            label=f"{number}  {one.name}",
            **style,
        )
        seen[number] = (seconds, metric.value)
    panel.set_xscale("log")
    panel.axhline(0, color="0.85", linewidth=1)
    panel.set_xlabel("seconds to prepare and to score the points")
    panel.set_ylabel("linear datamodeling score")
    panel.set_title(scene)
    panel.margins(x=0.08)
    numbered(panel, seen)
    panel.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False
    )


def numbered(panel: Axes, seen: Mapping[int, tuple[float, float]]) -> None:
    """Writes the numbers of points (seconds, score) where they are farthest from one another."""
    panel.autoscale_view()
    places = panel.transData.transform(list(seen.values()))
    taken = [*places]
    pixels = OFFSETS * panel.figure.dpi / 72
    for (number, at), place in zip(seen.items(), places, strict=True):
        rooms = [_room(place + shift, place, taken) for shift in pixels]
        best = int(np.argmax(rooms))
        taken.append(place + pixels[best])
        panel.annotate(
            str(number),
            at,
            xytext=OFFSETS[best],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
        )


def _room(
    place: Array,
    own: Array,
    taken: Sequence[Array],
) -> float:
    """Returns the distance of a place to the nearest one that is taken by another than its own."""
    distances = [
        float(np.hypot(*(place - other)))
        for other in taken
        if not np.array_equal(other, own)
    ]
    return min(distances, default=0.0)
