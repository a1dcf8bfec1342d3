"""Errors and statistics of influence against the share of random labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.look import save
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
COLOURS = mpl.colormaps["tab10"]
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
        for number, source in enumerate(estimators):
            panels[1].plot([], [], color=COLOURS(number), label=source)
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
        for colour, points in (("0.2", TRAINED), ("tab:red", TEST)):
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
                colour,
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
    for line, model in zip(LINES, models(values), strict=False):
        for number, source in enumerate(estimators):
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
                COLOURS(number),
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
    colour: object,
    line: str,
    label: str | None = None,
) -> None:
    """A line, and of the first model a band of the intervals over the seeds."""
    shares = list(known)
    found = list(known.values())
    panel.plot(
        shares, [one.value for one in found], line, color=colour, lw=1.4, label=label
    )
    if line != LINES[0]:
        return
    low = [max(one.low, 0.0) for one in found]  # of no statistic below 0
    high = [one.high for one in found]
    panel.fill_between(
        shares,
        low,
        high,
        color=colour,
        alpha=0.12,
        linewidth=0,
    )
