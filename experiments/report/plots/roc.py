"""ROC curves of all detectors, one panel per attack, on linear axes with the line of chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.evaluation.metrics import Array
from experiments.evaluation.names import RowNames
from experiments.evaluation.ranking import Counts, roc_curve
from experiments.evaluation.rows import Row
from experiments.evaluation.samples import Sample
from experiments.report.pictures.legend import first_of
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.pictures.panels import label_outer, panels, saying
from experiments.report.plots.left_out import LeftOut, seeds_of
from experiments.report.plots.methods import (
    CHANCE,
    Looks,
    Method,
    chance,
    mean_auroc,
    method_of,
)
from experiments.report.table import ends_of

GRID = np.linspace(0, 1, 401)
LINES = 12  # in a panel
LOWEST = 3  # of them for the methods of lowest AUROC: a failure is shown, too
TICKS = (0, 0.25, 0.5, 0.75, 1)
TICK_LABELS = ("0", ".25", ".5", ".75", "1")


def mean_roc(samples: Sequence[Sample]) -> Array:
    """Returns the vertical average of the scenes' ROC curves at the false-positive rates `GRID`.

    Scenes without a curve are left out.

    Returns:
        True-positive rates of the shape of `GRID`; at a jump of a curve its upper end.
    """
    curves = []
    for sample in samples:
        if not sample.undefined():
            counts = Counts.of(sample.positive, sample.negative)
            false_rate, true_rate = roc_curve(counts)
            curves.append(np.interp(GRID, false_rate, true_rate))
    return np.asarray(np.mean(curves, axis=0), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Content:
    """What a figure shows.

    Attributes:
        rows: attack -> method -> its row.
        looks: of the methods that are drawn.
        drawn: these methods.
        note: what is left out.
    """

    rows: Mapping[str, Mapping[Method, Row]]
    looks: Looks
    drawn: Sequence[Method]
    note: str


def roc_figure(rows: Sequence[Row], limit: int = LINES) -> Figure:
    """Draws one panel for each attack with a defined curve.

    Beside each panel stand the AUROC of its curves with their intervals, the largest first. Where
    there are more methods than lines, those of largest and some of smallest mean AUROC are drawn; a
    note names the others, and what has no curve.

    Args:
        rows: of detections over seeds.
        limit: lines in a panel.
    """
    content = _content(rows, limit)
    count = len(content.rows)
    if not count:
        return saying(f"no attack has a defined ROC curve\n{content.note}")
    handles = [*content.looks.handles(), chance("chance; shaded: worse")]
    figure, axes, columns = panels(
        count, (4.6, 3.2), handles, content.note, sharex=True, sharey=True
    )
    for ax, attack in zip(axes, content.rows, strict=True):
        _panel(ax, attack, content)
    label_outer(axes, columns, "false-positive rate", "true-positive rate")
    return figure


def _content(rows: Sequence[Row], limit: int) -> Content:
    names = RowNames.of(rows)  # of all rows, so that names are those of the tables
    by_attack: dict[str, dict[Method, Row]] = {}
    by_method: dict[Method, list[Row]] = {}
    for row in rows:
        if row.metrics["auroc"].value is None:
            continue
        method = method_of(row, names)
        by_attack.setdefault(names.attack(row), {})[method] = row
        by_method.setdefault(method, []).append(row)
    means = {method: mean_auroc(found) for method, found in by_method.items()}
    best = sorted(means, key=means.__getitem__, reverse=True)
    drawn = _chosen(best, limit)
    notes = LeftOut.of(rows, names).notes()
    left = [method.label for method in best if method not in drawn]
    if left:
        count = f"{len(left)} of {len(best)} methods, of middling mean AUROC"
        notes.insert(0, f"{count}, are not drawn: {first_of(left)}")
    return Content(by_attack, Looks.of(drawn), drawn, "\n".join(notes))


def _chosen(best: list[Method], limit: int) -> list[Method]:
    """The first methods and some of the last, as many as fit."""
    if len(best) <= limit:
        return best
    lowest = min(LOWEST, limit // 2)
    return best[: limit - lowest] + best[len(best) - lowest :]


def _panel(ax: Axes, attack: str, content: Content) -> None:
    """Draws the curves of one attack, with their AUROC beside them, the largest first."""
    ax.fill_between([0, 1], [0, 1], color="0.955", linewidth=0, zorder=0)
    ax.plot([0, 1], [0, 1], zorder=1, **CHANCE)
    found = content.rows[attack]
    drawn = {method: found[method] for method in content.drawn if method in found}
    values = {method: mean_auroc([row]) for method, row in drawn.items()}
    handles = []
    for method in sorted(drawn, key=values.__getitem__, reverse=True):
        row = drawn[method]
        style = content.looks.line(method)
        curve = mean_roc(row.samples)
        # every curve rises from the corner, at once where a threshold lets no control pass
        places = np.concatenate([[0.0], GRID])
        heights = np.concatenate([[0.0], curve])
        ax.plot(places, heights, solid_joinstyle="round", **style)
        label = f"{values[method]:.3f}{ends_of(row.metrics['auroc'])}"
        handles.append(Line2D([], [], label=label, **style))
    ax.set_xticks(TICKS, TICK_LABELS)
    ax.set_yticks(TICKS, TICK_LABELS)
    ax.set(xlim=(-0.01, 1), ylim=(0, 1.01))
    ax.set_title(plain(attack), fontsize=9.5, loc="left")
    plain_axes(ax)
    ax.legend(
        handles=handles,
        title=f"AUROC [95 %], {seeds_of(drawn.values())}",
        fontsize=7,
        title_fontsize=7,
        labelspacing=0.35,
        handlelength=2.2,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),  # covers no curve
        borderaxespad=0.0,
    )
