"""How methods are told apart in every plot: detectors by colour, estimators by line and marker."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from experiments.evaluation.names import RowNames, natural
from experiments.evaluation.rows import Row
from experiments.report.pictures.estimator_look import NO_INFLUENCE, numbers
from experiments.report.pictures.look import COLOURS, STYLES, plain

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
        estimators: the numbers of their looks, in the order of their names, those without
            influence last.
        styles: the numbers of their lines, where these tell estimators apart.
    """

    methods: Mapping[Method, int]
    detectors: Mapping[str, int]
    estimators: Mapping[str, int]
    styles: Mapping[str, int]

    @classmethod
    def of(cls, methods: Iterable[Method]) -> "Looks":
        """Numbers some methods."""
        every = sorted(set(methods), key=_by_name)
        detectors = sorted({method.detector for method in every}, key=natural)
        estimators = numbers(method.estimator for method in every)
        return cls(
            {method: index for index, method in enumerate(every)},
            {name: index for index, name in enumerate(detectors)},
            estimators,
            _styles(estimators),
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
        style["linestyle"] = STYLES[self.styles[method.estimator]]
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
        for estimator, number in self.styles.items():
            label = plain(influence_by(estimator))
            style = {**_line(0), "color": "0.25", "linestyle": STYLES[number]}
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


def _styles(estimators: Mapping[str, int]) -> dict[str, int]:
    """Line styles that differ while there are enough; that of an estimator is mostly the same."""
    free = list(range(len(STYLES)))
    found = {}
    order = sorted(estimators, key=estimators.__getitem__)
    order.sort(key=NO_INFLUENCE.__ne__)
    for name in order:
        wanted = estimators[name] % len(STYLES)
        number = wanted if wanted in free or not free else free[0]
        if number in free:
            free.remove(number)
        found[name] = number
    return {name: found[name] for name in estimators}


def _by_name(method: Method) -> list[tuple[float, str]]:
    """A sort key."""
    return natural(method.label)


def influence_by(estimator: str) -> str:
    """Returns what a legend says of an estimator."""
    if estimator == NO_INFLUENCE:
        return "no influence"
    return f"influence by {estimator}"


def chance(label: str = "chance") -> Line2D:
    """Returns the entry of a legend for the line of chance."""
    return Line2D([], [], label=label, **CHANCE)


def mean_auroc(rows: Sequence[Row]) -> float:
    """Returns the mean of the defined AUROC of some rows; nan where none is."""
    values = [row.metrics["auroc"].value for row in rows]
    defined = [value for value in values if value is not None]
    if not defined:
        return float("nan")
    return float(np.mean(defined))
