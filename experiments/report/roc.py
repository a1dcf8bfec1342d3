"""Pictures from the logs: ROC curves of all detectors, and the training images behind a prediction. PNG, PDF or SVG by suffix.

Figures are built by pure functions and saved apart; pyplot and its global state are not used.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from experiments.evaluation.detection import scene_rows
from experiments.evaluation.load import Results
from experiments.evaluation.metrics import Sample
from experiments.evaluation.names import in_order, naming, natural
from experiments.evaluation.rows import Row, aggregate
from experiments.report.style import COLOURS, STYLES, save

Array = NDArray[np.float64]
GRID = np.linspace(0, 1, 401) ** 2  # dense at low false-positive rates
LINES = len(COLOURS)


def mean_roc(samples: Sequence[Sample]) -> Array:
    """Vertical average of the scenes' ROC curves: (grid,) true-positive rates at `GRID`; scenes without a curve are left out."""
    curves = []
    for sample in samples:
        if not sample.undefined():
            fpr, tpr, _ = roc_curve(*sample.ranked(), drop_intermediate=False)
            curves.append(np.interp(GRID, fpr, tpr))  # at a jump: its upper end
    return np.asarray(np.mean(curves, axis=0), dtype=np.float64)


def roc_figure(rows: Sequence[Row], limit: int = LINES) -> Figure:
    """Draws one panel for each attack with a defined curve; the `limit` detectors of largest mean AUROC.

    Args:
        rows: over seeds, from `aggregate`.
        limit: lines in a panel; a note counts those left out.
    """
    rows = [row for row in rows if row.metrics["auroc"].value is not None]
    names = naming(rows)
    by_attack: dict[str, dict[str, Row]] = {}
    values: dict[str, list[float]] = {}
    for row in rows:
        attack, estimator, detector = names(row)
        label = detector if row.settings.get("estimator") is None else f"{detector} · {estimator}"
        by_attack.setdefault(attack, {})[label] = row
        values.setdefault(label, []).append(row.metrics["auroc"].value or 0.0)
    best = sorted(values, key=lambda label: -float(np.mean(values[label])))
    styles: dict[str, dict[str, Any]] = {}
    for i, label in enumerate(sorted(best[:limit], key=natural)):
        styles[label] = {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": STYLES[i % len(STYLES)],
            "linewidth": 1.7,
        }
    left_out = (
        f"{len(best) - limit} of {len(best)} detectors, those of lowest mean AUROC, are not drawn"
        if best[limit:]
        else ""
    )
    return _roc_panels(by_attack, styles, left_out)


def _roc_panels(
    by_attack: dict[str, dict[str, Row]], styles: dict[str, dict[str, Any]], note: str
) -> Figure:
    columns = 2 if len(by_attack) == 4 else min(3, max(1, len(by_attack)))
    lines = math.ceil(len(by_attack) / columns)
    legend_columns = 1 if columns == 1 else 2
    legend_height = 0.21 * math.ceil(len(styles) / legend_columns) + 0.35 * bool(note) + 0.25
    size = max(4.6, 4.0 * columns), 3.2 * max(1, lines) + legend_height
    figure = Figure(figsize=size, layout="constrained")
    if not by_attack:
        figure.text(
            0.5, 0.5, "no attack has a defined ROC curve", ha="center", va="center", color="0.3"
        )
        return figure
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for ax, (attack, found) in zip(axes, by_attack.items(), strict=False):
        _roc_panel(
            ax, attack, {label: row for label, row in found.items() if label in styles}, styles
        )
    for ax in axes[len(by_attack) :]:
        ax.remove()
    for i, ax in enumerate(axes[: len(by_attack)]):
        if i + columns >= len(by_attack):  # the lowest of its column
            ax.set_xlabel("false-positive rate (square-root scale)", fontsize=8.5)
            ax.tick_params(labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel("true-positive rate", fontsize=8.5)
    handles = [Line2D([], [], label=label, **style) for label, style in styles.items()]
    look: dict[str, Any] = {
        "ncols": legend_columns,
        "fontsize": 8,
        "frameon": False,
        "title": note or None,
        "title_fontsize": 8,
    }
    figure.legend(handles=handles, loc="outside lower center", **look)
    return figure


def _roc_panel(
    ax: Axes, attack: str, found: dict[str, Row], styles: dict[str, dict[str, Any]]
) -> None:
    ax.plot(GRID, GRID, color="0.75", linewidth=1, zorder=1)
    handles = []
    for label, row in sorted(
        found.items(), key=lambda item: -(item[1].metrics["auroc"].value or 0.0)
    ):
        ax.plot(GRID, mean_roc(row.samples), solid_joinstyle="round", **styles[label])
        handles.append(Line2D([], [], label=f"{row.metrics['auroc'].value:.3f}", **styles[label]))
    ax.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ax.set_xticks([0, 0.01, 0.05, 0.2, 0.5, 1], ["0", ".01", ".05", ".2", ".5", "1"])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.set(xlim=(0, 1), ylim=(0, 1.01))
    ax.set_title(attack, fontsize=9.5, loc="left")
    ax.tick_params(labelsize=8, color="0.6", length=3)
    ax.grid(color="0.92", linewidth=0.7)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("0.6")
    beside: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.02, 1.0),
        "borderaxespad": 0.0,
    }  # covers no curve
    small: dict[str, Any] = {
        "fontsize": 7.5,
        "title_fontsize": 7.5,
        "labelspacing": 0.4,
        "handlelength": 1.8,
        "frameon": False,
    }
    ax.legend(handles=handles, title="AUROC", **small, **beside)


def roc_curves(results: Results, path: Path) -> Path:
    """Saves the ROC curves of all detectors over all controls, averaged over the seeds."""
    return save(roc_figure(in_order(aggregate(scene_rows(results)[1]))), path)
