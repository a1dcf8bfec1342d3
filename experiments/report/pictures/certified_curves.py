"""Certified accuracy against the number of changed training rows, one line per certifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.kinds.certificates import certified
from experiments.evaluation.load import Results
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import ShortNames
from experiments.report.pictures.look import Look, save
from poisonbench.errors import ConfigError
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
    short = ShortNames.of(record.config["certifier"] for record in records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        label = short.name(record.config["certifier"])
        groups.setdefault(label, []).append(record)
    largest = [int(record.data[names.RADIUS].max(initial=0)) for record in records]
    most = 1 + max(largest)
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for index, label in enumerate(sorted(groups)):
        curves = np.stack([curve(record, most) for record in groups[label]])
        _draw(axes, curves, label, Look.number(index))
    axes.set_xlabel("training rows inserted or deleted")
    axes.set_ylabel("certified accuracy")
    axes.set_xlim(0, most)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize="small")
    return figure


def _draw(axes: Axes, curves: Array, label: str, look: Look) -> None:
    """Draws the curves (scenes, radii) of one certifier."""
    radii = range(curves.shape[1])
    axes.step(
        radii,
        curves.mean(0),
        where="post",
        color=look.colour,
        linestyle=look.style,
        label=label,
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


def certified_curves(results: Results, path: Path) -> Path:
    """Saves the figure of all certifiers of a run and returns the path.

    Raises:
        ConfigError: the run has no certifier.
    """
    records = results.of("certify")
    if not records:
        what = f"{results.folder} holds no logs of certifiers"
        raise ConfigError([what], "a grid names them as [[certifier]]")
    return save(certified_figure(records), path)
