"""Errors and statistics of influence against the share of random labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.estimator_look import numbers, point
from experiments.report.pictures.look import COLOURS, save
from experiments.study.means import Mean
from experiments.study.random_labels.series import (
    MODEL,
    TEST,
    TRAINED,
    Value,
    models,
    series,
    sources,
)

SIZE = (12, 6.4)  # inches
LINES = ("-", "--", ":")  # of the models
# panels: title, label of the axis, points, name of the statistic, logarithmic
PANELS = (
    (
        "training points",
        "own share of the influence",
        TRAINED,
        "own share",
        False,
    ),
    (
        "training points",
        "own row is the most influential",
        TRAINED,
        "own first",
        False,
    ),
    (
        "test points",
        "tail heaviness",
        TEST,
        "tail heaviness",
        True,
    ),
    (
        "test points",
        "effective number of proponents",
        TEST,
        "proponents",
        True,
    ),
    (
        "test points",
        "positive share of the influence",
        TEST,
        "positive share",
        False,
    ),
)


def draw(
    values: Sequence[Value],
    path: Path,
) -> None:
    """Saves the figure, without a display."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        panels = figure.subplots(2, 3).flatten()
        _errors(panels[0], values)
        estimators = sources(values, "own share")
        for panel, form in zip(panels[1:], PANELS, strict=True):
            _panel(panel, values, estimators, form)
        looks = numbers(estimators)
        for source in estimators:
            style = {**point(looks[source], 4.0), "linestyle": "-"}
            panels[1].plot([], [], label=source, **style)
        for line, model in zip(LINES, models(values), strict=False):
            panels[1].plot([], [], line, color="0.3", label=model)
        handles, labels = panels[1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        save(figure, path)


def _errors(
    panel: Axes,
    values: Sequence[Value],
) -> None:
    for line, model in zip(LINES, models(values), strict=False):
        for colour, marker, points in (("0.2", "o", TRAINED), (COLOURS[1], "s", TEST)):
            known = series(
                values,
                model,
                MODEL,
                points,
                "error",
            )
            _curve(
                panel,
                known,
                {"color": colour, "marker": marker, "markersize": 4.0},
                line,
                f"{points}, {model}",
            )
    panel.set_title("errors")
    panel.set_ylabel("share of wrong predictions")
    panel.set_xlabel("share of labels drawn at random")
    panel.legend(fontsize=7, frameon=False)


def _panel(
    panel: Axes,
    values: Sequence[Value],
    estimators: Sequence[str],
    form: tuple[str, str, str, str, bool],
) -> None:
    title, label, points, name, logarithmic = form
    looks = numbers(estimators)
    for line, model in zip(LINES, models(values), strict=False):
        for source in estimators:
            known = series(
                values,
                model,
                source,
                points,
                name,
            )
            _curve(
                panel,
                known,
                point(looks[source], 4.0),
                line,
            )
    if logarithmic:
        panel.set_yscale("log")
    panel.set_title(title)
    panel.set_ylabel(label)
    panel.set_xlabel("share of labels drawn at random")


def _curve(
    panel: Axes,
    known: Mapping[float, Mean],
    style: Mapping[str, Any],
    line: str,
    label: str | None = None,
) -> None:
    """A line, and of the first model a band of the intervals over the seeds."""
    shares = list(known)
    found = list(known.values())
    middle = [one.value for one in found]
    drawn = {**style, "linestyle": line, "linewidth": 1.4}
    panel.plot(shares, middle, label=label, **drawn)
    if line != LINES[0]:
        return
    low = [max(one.low, 0.0) for one in found]  # of no statistic below 0
    high = [one.high for one in found]
    panel.fill_between(
        shares,
        low,
        high,
        color=style["color"],
        alpha=0.12,
        linewidth=0,
    )
