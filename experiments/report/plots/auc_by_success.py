"""AUROC against attack success: is a detector good only where the attack is weak, or strong?"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, natural
from experiments.evaluation.rows import Row
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.plots.methods import (
    CHANCE,
    Looks,
    chance,
    influence_by,
    mean_auroc,
    method_of,
    point,
)
from experiments.report.plots.panels import label_outer, largest, panels, saying

CLOSE = 0.06  # AUROC between two points of an attack that share a letter
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def success_figure(detections: Sequence[Row], victims: Sequence[Row]) -> Figure:
    """Draws one panel for each detector: a point for each attack and estimator.

    Both metrics have their 95 % intervals. A letter names the attack. Where there are more
    detectors than panels, those of largest mean AUROC are drawn.

    Args:
        detections: rows over seeds.
        victims: rows over seeds of the same run.
    """
    names = RowNames.of([*victims, *detections])
    success = _success(victims, names)
    able = [row for row in detections if row.metrics["auroc"].value is not None]
    able = [row for row in able if names.attack(row) in success]
    if not able:
        return saying("no detector has an AUROC where attack success is known")
    found: dict[str, dict[tuple[str, str], Row]] = {}
    for row in able:
        method = method_of(row, names)
        found.setdefault(method.detector, {})[method.estimator, names.attack(row)] = row
    means = {detector: mean_auroc([*rows.values()]) for detector, rows in found.items()}
    chosen, note = largest(means, "mean AUROC")
    looks = Looks.of(method_of(row, names) for row in able)
    used = {attack for detector in chosen for _, attack in found[detector]}
    letters = _letters(used)
    handles = _handles(looks, letters)
    figure, axes, in_line = panels(
        len(chosen), (3.3, 2.8), handles, note, sharex=True, sharey=True
    )
    for ax, detector in zip(axes, chosen, strict=True):
        ax.set_title(plain(detector), fontsize=9, loc="left")
        _panel(ax, found[detector], success, looks, letters)
    label_outer(axes, in_line, "attack success rate", "AUROC")
    return figure


def _success(victims: Sequence[Row], names: RowNames) -> dict[str, Metric]:
    """The attack success rates that are known, by attack."""
    found = {}
    for row in victims:
        metric = row.metrics["asr"]
        if metric.value is not None:
            found[names.attack(row)] = metric
    return found


def _letters(attacks: set[str]) -> dict[str, str]:
    """A letter for each attack; numbers where letters run out."""
    found = {}
    for index, attack in enumerate(sorted(attacks, key=natural)):
        found[attack] = LETTERS[index] if index < len(LETTERS) else str(index)
    return found


def _handles(looks: Looks, letters: Mapping[str, str]) -> list[Line2D]:
    """The entries of the legend: attacks by letter, then estimators by marker."""
    found = []
    for attack, letter in letters.items():
        mark = rf"$\mathrm{{{letter}}}$"
        style = {"marker": mark, "markersize": 6, "linestyle": "", "color": "0.2"}
        found.append(Line2D([], [], label=plain(attack), **style))  # type: ignore[arg-type]
    if len(looks.estimators) > 1:
        for estimator, number in looks.estimators.items():
            label = plain(influence_by(estimator))
            found.append(Line2D([], [], label=label, markersize=5, **point(number)))
    return [*found, chance()]


def _panel(
    ax: Axes,
    rows: Mapping[tuple[str, str], Row],
    success: Mapping[str, Metric],
    looks: Looks,
    letters: Mapping[str, str],
) -> None:
    """Draws the points of one detector."""
    ax.axhline(0.5, zorder=1, **CHANCE)
    lettered: dict[str, list[float]] = {}
    for (estimator, attack), row in rows.items():
        x = success[attack]
        y = row.metrics["auroc"]
        assert x.value is not None
        assert y.value is not None
        style = point(looks.estimators[estimator])
        for metric, draw in ((y, ax.vlines), (x, ax.hlines)):
            if metric.interval:
                other = x.value if metric is y else y.value
                draw(
                    other,
                    *metric.interval,
                    color=style["color"],
                    linewidth=0.9,
                    alpha=0.45,
                )
        ax.plot(
            [x.value],
            [y.value],
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            **style,
        )
        heights = lettered.setdefault(attack, [])
        if any(abs(y.value - height) < CLOSE for height in heights):
            continue  # two letters in one place are none
        heights.append(y.value)
        ax.annotate(
            letters[attack],
            (x.value, y.value),
            xytext=(-4, -3),
            textcoords="offset points",
            fontsize=7,
            ha="right",
            va="top",
            color="0.2",
        )
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    plain_axes(ax)
