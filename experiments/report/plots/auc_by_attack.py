"""AUROC of every method against every attack, as a map of numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.evaluation.means import mean_row
from experiments.evaluation.metrics import Array, Metric
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.report.pictures.legend import wrapped
from experiments.report.pictures.look import plain
from experiments.report.pictures.panels import saying
from experiments.report.plots.left_out import LeftOut, listed, seeds_of
from experiments.report.plots.methods import Method, method_of
from experiments.report.table import ends_of

# orange below chance, purple above, white at chance: told apart without red and green
COLOURS = colormaps["PuOr"]
MOST_WITH_INTERVALS = 150  # cells
LETTER = 0.065  # inches of a letter of a label
DARK = 0.3  # distance from chance at which a cell is too dark for black letters


@dataclass(frozen=True, eq=False)
class Map:
    """The cells.

    Attributes:
        cells: of each method, its AUROC by attack.
        attacks: the columns.
        means: of each method over the attacks, with intervals.
        notes: what is not in the map.
    """

    cells: Mapping[Method, Mapping[str, Metric]]
    attacks: Sequence[str]
    means: Mapping[Method, Metric]
    notes: Sequence[str]

    @property
    def methods(self) -> list[Method]:
        """The lines, those of largest mean first, those without any value last."""
        return sorted(self.cells, key=self._order)

    def _order(self, method: Method) -> tuple[bool, float, str]:
        mean = self.means[method].value
        return mean is None, -(mean or 0.0), method.label


def map_figure(rows: Sequence[Row]) -> Figure:
    """Draws AUROC of each method (a line) against each attack (a column), with intervals.

    A cell without a value is hatched, and below the map stands why, and which attacks have no
    column. The last column is the mean over the attacks with a value.

    Args:
        rows: of detections over seeds.
    """
    content = _content(rows)
    if not content.cells:
        return saying("no detector was judged on an attack")
    shown = [*content.attacks]
    if len(shown) > 1:
        shown.append("mean")
    methods = content.methods
    size = len(methods) * len(shown)
    with_intervals = size <= MOST_WITH_INTERVALS
    longest = max(len(method.label) for method in methods)
    width = LETTER * longest + len(shown) * (1.02 if with_intervals else 0.7) + 0.9
    letters = max(len(name) for name in shown)
    told = [f"({number}) {why}" for why, number in _reasons(content).items()]
    if with_intervals:
        told.insert(0, f"[ ]: 95 % interval, {seeds_of(rows)}")
    width = max(4.6, width)
    noted = wrapped("\n".join([*told, *content.notes]), 0.9 * width)
    lines = len(noted.splitlines())
    height = 0.36 * len(methods) + 0.045 * letters + 0.16 * lines + 0.7
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.add_subplot()
    _draw(ax, content, shown, with_intervals)
    figure.supxlabel(noted, fontsize=7.5, color="0.35", x=0.01, ha="left")
    return figure


def _content(rows: Sequence[Row]) -> Map:
    names = RowNames.of(rows)
    cells: dict[Method, dict[str, Metric]] = {}
    by_method: dict[Method, list[Row]] = {}
    attacks: dict[str, None] = {}
    able = {names.attack(row) for row in rows if row.metrics["auroc"].value is not None}
    for row in rows:
        attack = names.attack(row)
        if able and attack not in able:
            continue  # nothing to find, such as the control without an attack
        method = method_of(row, names)
        attacks[attack] = None
        cells.setdefault(method, {})[attack] = row.metrics["auroc"]
        by_method.setdefault(method, []).append(row)
    means = {method: _mean_of(found) for method, found in by_method.items()}
    notes = []
    lost = LeftOut.of(rows, names).attacks
    if able and lost:
        notes = [f"no column: {listed(lost)}"]
    return Map(cells, list(attacks), means, notes)


def _mean_of(rows: Sequence[Row]) -> Metric:
    """The mean AUROC over attacks, with the interval that the tables have."""
    apart = [[row] for row in rows]
    return mean_row(rows, apart, each="attacks", settings={}).metrics["auroc"]


def _reasons(content: Map) -> dict[str, int]:
    """Why cells have no value, numbered."""
    found: dict[str, int] = {}
    for method in content.methods:
        for attack in content.attacks:
            metric = content.cells[method].get(attack)
            if metric is not None and metric.value is None:
                found.setdefault(metric.reason, len(found) + 1)
    return found


def _draw(ax: Axes, content: Map, shown: Sequence[str], with_intervals: bool) -> None:
    methods = content.methods
    reasons = _reasons(content)
    values = np.full((len(methods), len(shown)), np.nan)
    for line, method in enumerate(methods):
        for column, attack in enumerate(content.attacks):
            metric = content.cells[method].get(attack)
            if metric is None:
                _empty(ax, line, column, "")
            elif metric.value is None:
                _empty(ax, line, column, f"({reasons[metric.reason]})")
            else:
                values[line, column] = metric.value
                told = _told(metric, with_intervals)
                _write(ax, line, column, told, metric.value)
        if len(shown) > len(content.attacks):
            _mean(ax, values, line, content.means[method], with_intervals)
    image = ax.imshow(values, cmap=COLOURS, vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(shown)), [plain(name) for name in shown], fontsize=8)
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    for label in ax.get_xticklabels():
        label.set(rotation=30, ha="left", rotation_mode="anchor")
    labels = [plain(method.label) for method in methods]
    ax.set_yticks(range(len(methods)), labels, fontsize=8)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(len(shown) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(methods) - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="minor", length=0)
    figure = ax.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=ax, shrink=0.9, aspect=30, pad=0.02)
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", ".25", "chance", ".75", "1"])
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.outline.set_visible(False)
    bar.set_label("AUROC", fontsize=8)


def _told(metric: Metric, with_intervals: bool) -> str:
    """What a cell says."""
    told = f"{metric.value:.3f}"
    if with_intervals and metric.interval:
        told += f"\n{ends_of(metric).strip()}"
    return told


def _mean(
    ax: Axes, values: Array, line: int, mean: Metric, with_intervals: bool
) -> None:
    """Fills the last cell of a line."""
    column = values.shape[1] - 1
    if mean.value is None:
        _empty(ax, line, column, "")
        return
    values[line, column] = mean.value
    told = _told(mean, with_intervals)
    _write(ax, line, column, told, mean.value, weight="bold")


def _write(
    ax: Axes, line: int, column: int, text: str, value: float, weight: str = "normal"
) -> None:
    """Writes a value where its cell will be coloured."""
    is_dark = abs(value - 0.5) > DARK
    ax.text(
        column,
        line,
        text,
        ha="center",
        va="center",
        fontsize=7,
        linespacing=1.05,
        color="white" if is_dark else "black",
        fontweight=weight,
    )


def _empty(ax: Axes, line: int, column: int, text: str) -> None:
    """Hatches a cell without a value."""
    corner = (column - 0.5, line - 0.5)
    ax.add_patch(
        Rectangle(corner, 1, 1, hatch="////", fill=False, edgecolor="0.8", linewidth=0)
    )
    ax.text(column, line, text, ha="center", va="center", fontsize=7, color="0.35")
