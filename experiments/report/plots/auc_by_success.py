"""AUROC against attack success: is a detector good only where the attack is weak, or strong?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from experiments.evaluation.metrics import Metric
from experiments.evaluation.names import RowNames, natural
from experiments.evaluation.rows import Row
from experiments.report.pictures.estimator_look import numbers, point
from experiments.report.pictures.letters import write_letters
from experiments.report.pictures.look import plain, plain_axes
from experiments.report.pictures.panels import label_outer, largest, panels, saying
from experiments.report.plots.left_out import LeftOut, seeds_of
from experiments.report.plots.methods import (
    CHANCE,
    chance,
    influence_by,
    mean_auroc,
    method_of,
)
from experiments.report.table import ends_of

APART = 0.016  # success rate between the points of two estimators, which would overlap
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, eq=False)
class Place:
    """A point.

    Attributes:
        x: attack success rate, beside it where there are several estimators.
        y: AUROC with its interval.
        letter: of the attack.
        look: number of the estimator's.
    """

    x: float
    y: Metric
    letter: str
    look: int

    @property
    def at(self) -> tuple[float, float]:
        """Where it is drawn."""
        assert self.y.value is not None
        return self.x, self.y.value


def success_figure(detections: Sequence[Row], victims: Sequence[Row]) -> Figure:
    """Draws one panel for each detector: a point for each attack and estimator.

    A letter names the attack; its success rate with the interval is in the legend. The points of
    several estimators stand a little beside one another. Where there are more detectors than
    panels, those of largest mean AUROC are drawn; a note names the others.

    Args:
        detections: rows over seeds.
        victims: rows over seeds of the same run.
    """
    names = RowNames.of([*victims, *detections])
    success = _success(victims, names)
    able = [row for row in detections if row.metrics["auroc"].value is not None]
    able = [row for row in able if names.attack(row) in success]
    lost = LeftOut.of(detections, names).notes()
    if not able:
        told = "no detector has an AUROC where attack success is known"
        return saying("\n".join([told, *lost]))
    by_detector: dict[str, list[Row]] = {}
    for row in able:
        by_detector.setdefault(method_of(row, names).detector, []).append(row)
    means = {detector: mean_auroc(rows) for detector, rows in by_detector.items()}
    chosen, left = largest(means, "mean AUROC")
    looks = numbers(method_of(row, names).estimator for row in able)
    shown = [row for detector in chosen for row in by_detector[detector]]
    letters = _letters({names.attack(row) for row in shown})
    handles = _handles(looks, letters, success)
    bars = f"bars and brackets: 95 % intervals, {seeds_of(able)}"
    if len(looks) > 1:
        bars += "; estimators stand side by side at one success rate"
    figure, axes, in_line = panels(
        len(chosen),
        (3.3, 2.8),
        handles,
        "\n".join(filter(None, [bars, left, *lost])),
        sharex=True,
        sharey=True,
    )
    for ax, detector in zip(axes, chosen, strict=True):
        ax.set_title(plain(detector), fontsize=9, loc="left")
        places = _places(by_detector[detector], names, success, looks, letters)
        _panel(ax, places)
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


def _handles(
    looks: Mapping[str, int],
    letters: Mapping[str, str],
    success: Mapping[str, Metric],
) -> list[Artist]:
    """The entries of the legend: attacks by letter, then estimators by marker."""
    found: list[Artist] = []
    for attack, letter in letters.items():
        rate = success[attack]
        told = f"{attack}: {rate.value:.2f}{ends_of(rate)}"
        found.append(Text(text=letter, label=plain(told)))
    for estimator, number in looks.items():
        label = plain(influence_by(estimator))
        found.append(Line2D([], [], label=label, **point(number)))
    return [*found, chance()]


def _places(
    rows: Sequence[Row],
    names: RowNames,
    success: Mapping[str, Metric],
    looks: Mapping[str, int],
    letters: Mapping[str, str],
) -> list[Place]:
    """The points of one detector."""
    used = {method_of(row, names).estimator for row in rows}
    order = [estimator for estimator in looks if estimator in used]
    found = []
    for row in rows:
        attack = names.attack(row)
        estimator = method_of(row, names).estimator
        rate = success[attack].value
        assert rate is not None
        beside = order.index(estimator) - (len(order) - 1) / 2
        place = Place(
            x=rate + APART * beside,
            y=row.metrics["auroc"],
            letter=letters[attack],
            look=looks[estimator],
        )
        found.append(place)
    return found


def _panel(ax: Axes, places: Sequence[Place]) -> None:
    """Draws the points of one detector."""
    ax.axhline(0.5, zorder=1, **CHANCE)
    for place in places:
        style = point(place.look, 4.5)
        if place.y.interval:
            low, high = place.y.interval
            ax.vlines(
                place.x, low, high, color=style["color"], linewidth=0.7, alpha=0.35
            )
        ax.plot(
            *([value] for value in place.at),
            markeredgecolor="white",
            markeredgewidth=0.4,
            **style,
        )
    write_letters(ax, [p.at for p in places], [p.letter for p in places])
    ax.set(xlim=(-0.04, 1.06), ylim=(-0.04, 1.06))
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    plain_axes(ax)
