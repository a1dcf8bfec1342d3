"""Certified accuracy against the number of changed training rows, one line per certifier."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.kinds.certificates import certified
from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import ShortNames, scene_settings
from experiments.report.pictures.look import Look, plain, plain_axes
from experiments.report.plots.methods import legend_below
from poisonbench.log import Record, names


def curve(record: Record, most: int) -> Array:
    """Returns the certified accuracy of one log at the radii 0, ..., most: (most + 1,)."""
    label = record.data[names.LABEL]
    radius = record.data[names.RADIUS]
    truth = record.data[names.TRUTH]
    accuracies = np.full(most + 1, np.nan)
    for at in range(most + 1):
        value = certified(label, radius, truth, at).value
        if value is not None:
            accuracies[at] = value
    return accuracies


def certified_figure(records: Sequence[Record]) -> Figure:
    """Draws the mean over scenes of each certifier, and the band between its least and largest.

    Args:
        records: logs of kind "certify"; at least one.
    """
    groups = _by_label(records)
    largest = [int(record.data[names.RADIUS].max(initial=0)) for record in records]
    most = 1 + max(largest)
    figure = Figure(figsize=(5.2, 3.6 + 0.1 * len(groups)), layout="constrained")
    axes = figure.add_subplot()
    for index, label in enumerate(sorted(groups)):
        curves = np.stack([curve(record, most) for record in groups[label]])
        _draw(axes, curves, label, Look.number(index))
    axes.set_xlabel("training rows inserted or deleted", fontsize=9)
    axes.set_ylabel("certified accuracy", fontsize=9)
    axes.set_xlim(0, most)
    axes.set_ylim(0, 1.01)
    plain_axes(axes)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return figure


def _by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The logs of each certifier, of each data set and model apart where there are several."""
    certifiers = ShortNames.of(record.config["certifier"] for record in records)
    configs = [scene_settings(settings(record)[0]) for record in records]
    scenes = ShortNames.of(configs)
    several = len({scenes.name(config) for config in configs}) > 1
    groups: dict[str, list[Record]] = {}
    for record, config in zip(records, configs, strict=True):
        label = certifiers.name(record.config["certifier"])
        if several:
            label += f", {scenes.name(config)}"
        groups.setdefault(label, []).append(record)
    return groups


def _draw(axes: Axes, curves: Array, label: str, look: Look) -> None:
    """Draws the curves (scenes, radii) of one certifier."""
    radii = range(curves.shape[1])
    axes.step(
        radii,
        curves.mean(0),
        where="post",
        color=look.colour,
        linestyle=look.style,
        label=plain(label),
    )
    axes.fill_between(
        radii,
        curves.min(0),
        curves.max(0),
        step="post",
        color=look.colour,
        alpha=0.15,
        linewidth=0,
    )
