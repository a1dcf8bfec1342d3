"""ROC curves of all detectors, one panel per attack."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.evaluation.evaluations import rows_of
from experiments.evaluation.load import Results
from experiments.evaluation.means import aggregate
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import RowNames, in_order, natural
from experiments.evaluation.ranking import Counts, roc_curve
from experiments.evaluation.rows import Row
from experiments.evaluation.samples import Sample
from experiments.report.pictures.look import COLOURS, Look, plain_axes, save

GRID = np.linspace(0, 1, 401) ** 2  # dense at low false-positive rates
LINES = len(COLOURS)


def mean_roc(samples: Sequence[Sample]) -> Array:
    """Returns the vertical average of the scenes' ROC curves at the false-positive rates `GRID`.

    Scenes without a curve are left out.

    Returns:
        True-positive rates of the shape of `GRID`; at a jump of a curve its upper end.
    """
    curves = []
    for sample in samples:
        if not sample.undefined():
            false_rate, true_rate = roc_curve(
                Counts.of(sample.positive, sample.negative)
            )
            curves.append(np.interp(GRID, false_rate, true_rate))
    return np.asarray(np.mean(curves, axis=0), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Panels:
    """What a figure shows.

    Attributes:
        rows: attack -> label of a detector -> its row.
        looks: of the detectors that are drawn, by label.
        note: what is left out.
    """

    rows: Mapping[str, Mapping[str, Row]]
    looks: Mapping[str, Look]
    note: str


def roc_figure(rows: Sequence[Row], limit: int = LINES) -> Figure:
    """Draws one panel for each attack with a defined curve.

    Args:
        rows: over seeds, from `aggregate`.
        limit: lines in a panel: the detectors of largest mean AUROC; a note counts those left out.
    """
    able = [row for row in rows if row.metrics["auroc"].value is not None]
    panels = _panels(able, limit)
    count = len(panels.rows)
    columns = 2 if count == 4 else min(3, max(1, count))
    lines = max(1, math.ceil(count / columns))
    legend_columns = min(2, columns)
    figure = _empty_figure(panels, columns, lines, legend_columns)
    if not count:
        figure.text(
            0.5,
            0.5,
            "no attack has a defined ROC curve",
            ha="center",
            va="center",
            color="0.3",
        )
        return figure
    grid = figure.subplots(
        lines, columns, squeeze=False, sharex=True, sharey=True
    ).ravel()
    for ax in grid[count:]:
        ax.remove()
    axes = list(grid[:count])
    for ax, attack in zip(axes, panels.rows, strict=True):
        _panel(ax, attack, panels)
    _label_outer_axes(axes, columns)
    _legend(figure, panels, legend_columns)
    return figure


def _panels(rows: Sequence[Row], limit: int) -> Panels:
    names = RowNames.of(rows)
    by_attack: dict[str, dict[str, Row]] = {}
    values: dict[str, list[float]] = {}
    for row in rows:
        attack, estimator, label = names.all(row)
        if row.settings.get("estimator") is not None:
            label = f"{label} · {estimator}"
        by_attack.setdefault(attack, {})[label] = row
        values.setdefault(label, []).append(_auroc(row))
    means = {label: float(np.mean(found)) for label, found in values.items()}
    best = sorted(means, key=means.__getitem__, reverse=True)
    drawn = sorted(best[:limit], key=natural)
    note = ""
    if best[limit:]:
        left = f"{len(best) - limit} of {len(best)} detectors"
        note = f"{left}, those of lowest mean AUROC, are not drawn"
    looks = {label: Look.number(index) for index, label in enumerate(drawn)}
    return Panels(by_attack, looks, note)


def _auroc(row: Row) -> float:
    return row.metrics["auroc"].value or 0.0


def _empty_figure(
    panels: Panels, columns: int, lines: int, legend_columns: int
) -> Figure:
    legend_lines = math.ceil(len(panels.looks) / legend_columns)
    height = 3.2 * lines + 0.21 * legend_lines + 0.25
    if panels.note:
        height += 0.35
    width = max(4.6, 4.0 * columns)
    return Figure(figsize=(width, height), layout="constrained")


def _panel(ax: Axes, attack: str, panels: Panels) -> None:
    """Draws the curves of one attack, with their AUROC beside them, the largest first."""
    ax.plot(GRID, GRID, color="0.75", linewidth=1, zorder=1)
    found = panels.rows[attack]
    drawn = {
        label: _auroc(row) for label, row in found.items() if label in panels.looks
    }
    handles = []
    for label in sorted(drawn, key=drawn.__getitem__, reverse=True):
        row = found[label]
        style = _line_style(panels.looks[label])
        ax.plot(GRID, mean_roc(row.samples), solid_joinstyle="round", **style)
        handles.append(Line2D([], [], label=f"{drawn[label]:.3f}", **style))
    ax.set_xscale("function", functions=(_root, np.square))
    ax.set_xticks([0, 0.01, 0.05, 0.2, 0.5, 1], ["0", ".01", ".05", ".2", ".5", "1"])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.set(xlim=(0, 1), ylim=(0, 1.01))
    ax.set_title(attack, fontsize=9.5, loc="left")
    plain_axes(ax)
    ax.legend(
        handles=handles,
        title="AUROC",
        fontsize=7.5,
        title_fontsize=7.5,
        labelspacing=0.4,
        handlelength=1.8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),  # covers no curve
        borderaxespad=0.0,
    )


def _root(x: Array) -> Array:
    root: Array = np.sqrt(np.maximum(x, 0))
    return root


def _line_style(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": look.style, "linewidth": 1.7}


def _label_outer_axes(axes: Sequence[Axes], columns: int) -> None:
    """Labels the lowest panel of each column and the first of each line."""
    for index, ax in enumerate(axes):
        if index + columns >= len(axes):
            ax.set_xlabel("false-positive rate (square-root scale)", fontsize=8.5)
            ax.tick_params(labelbottom=True)
        if index % columns == 0:
            ax.set_ylabel("true-positive rate", fontsize=8.5)


def _legend(figure: Figure, panels: Panels, columns: int) -> None:
    handles = []
    for label, look in panels.looks.items():
        handles.append(Line2D([], [], label=label, **_line_style(look)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
        title=panels.note or None,
        title_fontsize=8,
    )


def roc_curves(results: Results, path: Path) -> Path:
    """Saves the ROC curves of all detectors over all controls, averaged over the seeds."""
    return save(roc_figure(in_order(aggregate(rows_of(results, "detect")))), path)
