"""Certified accuracy against the number of changed training rows, without and under attack."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.evaluation.intervals import mean_interval, rate_measured
from experiments.evaluation.kinds.certificates import certified
from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Array
from experiments.evaluation.names import ShortNames, natural, scene_settings
from experiments.report.pictures.legend import legend_below, legend_height
from experiments.report.pictures.look import COLOURS, STYLES, plain, plain_axes
from poisonbench.log import Record, names

WIDTH = 5.2  # inches
CONTROL = "none"  # the attack of a victim without poison
NOTE = "bands: 95 % intervals of the mean over the seeds"


@dataclass(frozen=True)
class Line:
    """What a line is of.

    Attributes:
        certifier: its name, with data set and model where there are several.
        attacked: whether it is the mean over the attacks, or of victims without poison.
    """

    certifier: str
    attacked: bool


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
    """Draws two lines for each certifier: without an attack, and the mean over the attacks.

    Both with the 95 % intervals of the mean over the seeds. The legend says of how many attacks and
    logs a line is.

    Args:
        records: logs of kind "certify"; at least one.
    """
    lines = _lines(records)
    certifiers = sorted({line.certifier for line in lines}, key=natural)
    largest = [int(record.data[names.RADIUS].max(initial=0)) for record in records]
    most = 1 + max(largest)
    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    for line in sorted(lines, key=_by_name):
        number = certifiers.index(line.certifier)
        _draw(axes, line, lines[line], most, COLOURS[number % len(COLOURS)])
    axes.set_xlabel("training rows inserted or deleted", fontsize=9)
    axes.set_ylabel("certified accuracy", fontsize=9)
    axes.set_xlim(0, most)
    axes.set_ylim(0, 1.01)
    plain_axes(axes)
    handles = axes.get_legend_handles_labels()[0]
    figure.set_size_inches(WIDTH, 3.4 + legend_height(handles, WIDTH, NOTE))
    legend_below(figure, handles, NOTE)
    return figure


def _lines(records: Sequence[Record]) -> dict[Line, dict[str, list[Record]]]:
    """The logs of each line by attack, of each data set and model apart."""
    certifiers = ShortNames.of(record.config["certifier"] for record in records)
    found = [settings(record)[0] for record in records]
    attacks = ShortNames.of(config["attack"] for config in found)
    configs = [scene_settings(config) for config in found]
    scenes = ShortNames.of(configs)
    several = len({scenes.name(config) for config in configs}) > 1
    lines: dict[Line, dict[str, list[Record]]] = {}
    for record, own, config in zip(records, found, configs, strict=True):
        label = certifiers.name(record.config["certifier"])
        if several:
            label += f", {scenes.name(config)}"
        attack = attacks.name(own["attack"])
        line = Line(label, attack != CONTROL)
        by_attack = lines.setdefault(line, {})
        by_attack.setdefault(attack, []).append(record)
    return lines


def _by_name(line: Line) -> tuple[list[tuple[float, str]], bool]:
    """A sort key."""
    return natural(line.certifier), line.attacked


def _draw(
    axes: Axes,
    line: Line,
    by_attack: dict[str, list[Record]],
    most: int,
    colour: str,
) -> None:
    """Draws the mean over attacks of the means over seeds, and its interval."""
    curves = {
        attack: np.stack([curve(record, most) for record in logs])
        for attack, logs in by_attack.items()
    }
    middle = np.mean([of_one.mean(0) for of_one in curves.values()], axis=0)
    ends = np.array([_interval(by_attack, curves, at) for at in range(most + 1)])
    radii = range(most + 1)
    axes.step(
        radii,
        middle,
        where="post",
        color=colour,
        linestyle=STYLES[0] if line.attacked else STYLES[2],
        label=plain(f"{line.certifier}, {_told(by_attack)}"),
    )
    axes.fill_between(
        radii,
        ends[:, 0],
        ends[:, 1],
        step="post",
        color=colour,
        alpha=0.15,
        linewidth=0,
    )


def _interval(
    by_attack: dict[str, list[Record]], curves: dict[str, Array], at: int
) -> tuple[float, float]:
    """The interval at a radius; nan where no log has test points."""
    groups = []
    for attack, logs in by_attack.items():
        measured = []
        for record, of_one in zip(logs, curves[attack], strict=True):
            if np.isfinite(of_one[at]):
                points = len(record.data[names.LABEL])
                measured.append(rate_measured(float(of_one[at]), points))
        if measured:
            groups.append(measured)
    return mean_interval(groups) if groups else (np.nan, np.nan)


def _told(by_attack: dict[str, list[Record]]) -> str:
    """Of which attack, or how many, and of how many seeds a line is."""
    counts = sorted({len(logs) for logs in by_attack.values()})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    seeds += " seed" if seeds == "1" else " seeds"
    if len(by_attack) > 1:
        return f"mean of {len(by_attack)} attacks, {seeds}"
    [attack] = by_attack
    told = "no attack" if attack == CONTROL else attack
    return f"{told}, {seeds}"
