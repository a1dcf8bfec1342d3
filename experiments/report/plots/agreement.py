"""Rank agreement of estimators: with each other, and with training again on groups of rows."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.metrics import Array
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.evaluation.views.agreement import Agreement
from experiments.report.pictures.estimator_look import NO_INFLUENCE
from experiments.report.pictures.legend import wrapped
from experiments.report.pictures.look import COLOURS, plain, plain_axes

MAP = colormaps["PuOr"]
DARK = 0.6  # correlation from which a cell is too dark for black letters
CELL = 0.42  # inches
LETTER = 0.075  # inches of a letter of a label
LEAST = 1.75  # inches of a panel, for its heading
RETRAINING = 2.4  # inches of the panel of groups
GAP = 0.35  # inches between panels
SCALE = 0.9  # inches of the scale of colours with its numbers
STATISTIC = "Spearman's rank correlation"
HEADS = {
    "attacked": "successfully attacked\ntest points",
    "clean": "clean\ntest points",
    "judged": "points\nto be judged",
}


def agreement_figure(found: Agreement | None, groups: Sequence[Row] = ()) -> Figure:
    """Draws a map of mean rank correlations for each group of points.

    Where groups of rows were left out and the victim trained again, a last panel shows how far each
    estimator orders the effects of these groups as retraining does.

    Args:
        found: from `agreement`; None for no map.
        groups: rows over seeds of the stage "group".
    """
    maps = list(found.groups) if found else []
    able = [row for row in groups if row.metrics["rank_first"].value is not None]
    labels = found.estimators if found else ()
    longest = max((len(name) for name in labels), default=0)
    side = max(CELL * len(labels), LEAST)
    lines = _lines(able, RowNames.of(groups, ("estimator", "group")))
    widths = [side] * len(maps)
    width = (side + GAP) * len(maps)
    if maps:
        width += LETTER * longest + SCALE
    if lines:
        widths.append(RETRAINING)
        width += RETRAINING + GAP + LETTER * max(len(line) for line in lines)
    height = max(side + 0.75 * LETTER * longest + 0.8, 0.28 * len(lines) + 1.1, 2.4)
    figure = Figure(figsize=(max(4.6, width), height), layout="constrained")
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    for index, group in enumerate(maps):
        assert found is not None
        title = f"{HEADS[group]} ({found.points[group]})"
        axes[index].set_title(title, fontsize=9, loc="left")
        _map(axes[index], found.groups[group], labels, with_names=index == 0)
    if maps:
        _scale(figure, axes[: len(maps)])
    if lines:
        _retraining(axes[-1], lines)
    lost = [row for row in groups if row not in able]
    if lost:
        told = "; ".join({row.metrics["rank_first"].reason: None for row in lost})
        note = f"{len(lost)} of {len(groups)} orders of groups are not drawn: {told}"
        figure.supxlabel(wrapped(note, width), fontsize=7.5, color="0.35")
    return figure


def _scale(figure: Figure, axes: Sequence[Axes]) -> None:
    """Says what the colours and numbers of the maps are."""
    bar = figure.colorbar(axes[0].images[0], ax=list(axes), aspect=18, pad=0.02)
    bar.set_ticks([-1, 0, 1], labels=["-1", "0", "1"])
    bar.set_label(f"mean of {STATISTIC}", fontsize=8)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.outline.set_visible(False)


def _map(ax: Axes, values: Array, labels: Sequence[str], with_names: bool) -> None:
    """Draws the correlations below the diagonal; the map is symmetric."""
    below = np.tril(np.ones(values.shape, dtype=bool))
    shown = np.where(below, values, np.nan)
    ax.imshow(shown, cmap=MAP, vmin=-1, vmax=1, aspect="auto")
    for line in range(len(labels)):
        for column in range(line + 1):
            value = values[line, column]
            text = "-"
            colour = "0.4"
            if np.isfinite(value):
                text = f"{value:.2f}".replace("0.", ".")
                colour = "white" if abs(value) > DARK else "black"
            ax.text(
                column, line, text, ha="center", va="center", fontsize=7, color=colour
            )
    names = [plain(label) for label in labels]
    places = range(len(labels))
    ax.set_xticks(places, names, fontsize=8, rotation=45, ha="right")
    for label in ax.get_xticklabels():
        label.set_rotation_mode("anchor")
    ax.set_yticks(places, names if with_names else [""] * len(names), fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _lines(rows: Sequence[Row], names: RowNames) -> dict[str, Row]:
    """The rows by their names; the attack is told where there are several."""
    attacks = {names.attack(row) for row in rows}
    found = {}
    for row in rows:
        estimator = names.method(row, "estimator")
        label = f"{names.method(row, 'group')} rows"
        if estimator != NO_INFLUENCE:
            label += f" by {estimator}"
        if len(attacks) > 1:
            label += f", {names.attack(row)}"
        found[label] = row
    return found


def _retraining(ax: Axes, lines: dict[str, Row]) -> None:
    """Draws the rank correlations of estimated and retrained effects of groups."""
    places = range(len(lines))
    for metric, colour, size, label in (
        ("rank_first", COLOURS[0], 7.5, "first order"),
        ("rank_second", COLOURS[1], 4.0, "second order"),
    ):
        values = []
        for row in lines.values():
            value = row.metrics[metric].value
            values.append(np.nan if value is None else value)
        ax.plot(
            values,
            places,
            marker="o",
            markersize=size,
            linestyle="",
            color=colour,
            label=label,
        )
    ax.axvline(0, color="0.45", linewidth=1)
    ax.set_xlim(-1.05, 1.05)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_yticks(places, [plain(line) for line in lines], fontsize=8)
    ax.set_title("effects of groups, with retraining", fontsize=9, loc="left")
    ax.set_xlabel(STATISTIC, fontsize=8.5)
    ax.legend(frameon=False, fontsize=7.5, loc="lower left")
    plain_axes(ax)
