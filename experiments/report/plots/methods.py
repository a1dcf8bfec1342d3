"""How methods are told apart in every plot: detectors by colour, estimators by line and marker."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.evaluation.names import RowNames, natural
from experiments.evaluation.rows import Row
from experiments.report.pictures.look import COLOURS, MARKERS, STYLES, plain

NO_INFLUENCE = "none"
CHANCE: dict[str, Any] = {"color": "0.45", "linewidth": 1, "linestyle": (0, (4, 3))}


@dataclass(frozen=True)
class Method:
    """A detector on the influence that an estimator gave.

    Attributes:
        detector: as the tables call it.
        estimator: as the tables call it, `NO_INFLUENCE` for a detector that reads none.
    """

    detector: str
    estimator: str

    @property
    def label(self) -> str:
        """Both, as a line of a plot is called."""
        if self.estimator == NO_INFLUENCE:
            return self.detector
        return f"{self.detector} · {self.estimator}"


def method_of(row: Row, names: RowNames) -> Method:
    """Returns the method of a row of a detection."""
    _, estimator, detector = names.all(row)
    return Method(detector, estimator)


@dataclass(frozen=True, eq=False)
class Looks:
    """How methods are drawn: the same in each panel of a figure.

    With few estimators colour tells the detector, and line style and marker the estimator. With
    many, each method has a look of its own.

    Attributes:
        methods: their numbers, in the order of their names.
        detectors: their numbers, in the order of their names.
        estimators: their numbers, in the order of their names, those without influence last.
    """

    methods: Mapping[Method, int]
    detectors: Mapping[str, int]
    estimators: Mapping[str, int]

    @classmethod
    def of(cls, methods: Iterable[Method]) -> "Looks":
        """Numbers some methods."""
        every = sorted(set(methods), key=_by_name)
        detectors = sorted({method.detector for method in every}, key=natural)
        estimators = sorted({method.estimator for method in every}, key=_none_last)
        return cls(
            {method: index for index, method in enumerate(every)},
            {name: index for index, name in enumerate(detectors)},
            {name: index for index, name in enumerate(estimators)},
        )

    @property
    def two_way(self) -> bool:
        """Whether detectors and estimators are told apart each by its own sign."""
        few_estimators = 1 < len(self.estimators) <= len(STYLES)
        return few_estimators and len(self.detectors) <= len(COLOURS)

    def line(self, method: Method) -> dict[str, Any]:
        """Returns the style of the line of a method."""
        if not self.two_way:
            return _line(self.methods[method])
        style = _line(self.detectors[method.detector])
        style["linestyle"] = STYLES[self.estimators[method.estimator]]
        return style

    def handles(self) -> list[Line2D]:
        """Returns the entries of a legend: of methods, or of detectors and then of estimators."""
        if not self.two_way:
            return [
                Line2D([], [], label=plain(method.label), **self.line(method))
                for method in self.methods
            ]
        found = []
        for detector, number in self.detectors.items():
            found.append(Line2D([], [], label=plain(detector), **_line(number)))
        for estimator, number in self.estimators.items():
            label = plain(influence_by(estimator))
            style = {**_line(number), "color": "0.25", "linestyle": STYLES[number]}
            found.append(Line2D([], [], label=label, **style))
        return found


def _line(number: int) -> dict[str, Any]:
    """The look of a line; beyond the colours that there are, style and marker change too."""
    style: dict[str, Any] = {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": STYLES[number // len(COLOURS) % len(STYLES)],
        "linewidth": 1.6,
    }
    return style


def point(number: int) -> dict[str, Any]:
    """Returns the look of a point; colours and markers recur together only after 64 numbers."""
    shift = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[(number + shift) % len(MARKERS)],
        "linestyle": "",
    }


def _by_name(method: Method) -> list[tuple[float, str]]:
    """A sort key."""
    return natural(method.label)


def _none_last(estimator: str) -> tuple[bool, list[tuple[float, str]]]:
    """A sort key."""
    return estimator == NO_INFLUENCE, natural(estimator)


def influence_by(estimator: str) -> str:
    """Returns what a legend says of an estimator."""
    if estimator == NO_INFLUENCE:
        return "no influence"
    return f"influence by {estimator}"


def chance(label: str = "chance") -> Line2D:
    """Returns the entry of a legend for the line of chance."""
    return Line2D([], [], label=label, **CHANCE)


LETTER = 0.062  # inches of a letter of a legend
SIGN = 0.62  # inches of the sign before an entry, and of the gap behind it
LINE = 0.19  # inches of a line of a legend


def columns_of(handles: Sequence[Artist], width: float) -> int:
    """Returns in how many columns the entries of a legend fit into a width in inches."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    return max(1, min(len(handles), int(width / (SIGN + LETTER * longest))))


def legend_height(handles: Sequence[Artist], width: float, note: str = "") -> float:
    """Returns how many inches `legend_below` takes in a figure of that width."""
    lines = math.ceil(len(handles) / columns_of(handles, width))
    return LINE * (lines + bool(note)) + 0.25


def legend_below(figure: Figure, handles: Sequence[Artist], note: str = "") -> None:
    """Puts a legend below the panels, with a note of what is left out above it."""
    if not handles and not note:
        return
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns_of(handles, figure.get_figwidth()),
        fontsize=8,
        frameon=False,
        title=note or None,
        title_fontsize=8,
    )


def mean_auroc(rows: Sequence[Row]) -> float:
    """Returns the mean of the defined AUROC of some rows; nan where none is."""
    values = [row.metrics["auroc"].value for row in rows]
    defined = [value for value in values if value is not None]
    if not defined:
        return float("nan")
    return float(np.mean(defined))
