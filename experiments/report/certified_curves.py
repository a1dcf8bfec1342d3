"""Certified accuracy against the number of changed training rows, a line a certifier, from the logs alone."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.evaluation.load import Results, settings
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import short_names
from experiments.report.style import COLOURS, STYLES, save
from poisonbench.log import Record


def curve(record: Record, most: int) -> Array:
    """Returns the certified accuracy of one log at the radii 0, ..., most, (most + 1,): right, and certified so far."""
    right = record.data["label"] == record.data["truth"]
    radius = np.where(right, record.data["radius"], -1)
    return np.array(
        [float((radius >= r).mean()) if len(radius) else np.nan for r in range(most + 1)]
    )


def certified_figure(records: Sequence[Record]) -> Figure:
    """Draws the mean over scenes of each certifier, and between its least and its largest.

    Args:
        records: logs of kind "certify"; at least one.
    """
    name = short_names(r.config["certifier"] for r in records)
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(name(settings(record)[0]["certifier"]), []).append(record)
    most = max((int(r.data["radius"].max(initial=0)) for r in records), default=0) + 1
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for (label, own), colour, style in zip(
        sorted(groups.items()), cycle(COLOURS), cycle(STYLES), strict=False
    ):
        curves = np.stack([curve(record, most) for record in own])
        axes.step(
            range(most + 1),
            curves.mean(0),
            where="post",
            color=colour,
            linestyle=style,
            label=label,
        )
        axes.fill_between(
            range(most + 1),
            curves.min(0),
            curves.max(0),
            step="post",
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    axes.set(
        xlabel="training rows inserted or deleted",
        ylabel="certified accuracy",
        ylim=(0, 1),
        xlim=(0, most),
    )
    axes.legend(frameon=False, fontsize="small")
    return figure


def certified_curves(results: Results, path: Path) -> Path:
    """Saves the figure of all certifiers of a run and returns the path."""
    return save(certified_figure(results.of("certify")), path)
