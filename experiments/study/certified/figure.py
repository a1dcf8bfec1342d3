"""Certificates as bounds: on removals that estimators choose, and on real attacks."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.look import Look, save
from experiments.study.certified.records import Found, sources
from experiments.study.certified.tables import (
    certified,
    of_model,
    of_vote,
    standing,
)
from experiments.study.looks import styles
from experiments.study.means import Mean, mean

SIZE = (13, 4.2)  # inches
GREY = Look("0.2", "-", "o")


def draw(
    found: Found,
    path: Path,
) -> None:
    """Saves the figure, without a display."""
    attacks = list(dict.fromkeys(assault.attack for assault in found.assaults))
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        widths = [1.5] + [1.0] * len(attacks)
        panels = figure.subplots(1, 1 + len(attacks), width_ratios=widths)
        _removals(panels[0], found)
        for panel, attack in zip(panels[1:], attacks, strict=True):
            _assaults(panel, found, attack)
        handles, labels = panels[-1].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower right",
            ncols=len(handles),
            fontsize=8,
            frameon=False,
        )
        save(figure, path)


def _removals(
    panel: Axes,
    found: Found,
) -> None:
    bound = certified(found.removals)
    floor = [one.value for one in bound.values()]
    panel.fill_between(
        list(bound), 0, floor, color="0.88", label="no rows can change them"
    )
    looks = styles(sources(found.removals), 5.0)
    for source, style in looks.items():
        look = Look(style["color"], "-", style["marker"])
        of_source = standing(found.removals, source, of_vote)
        _curve(
            panel,
            of_source,
            look,
            "-",
            source,
        )
        alone = standing(found.removals, source, of_model)
        _curve(
            panel,
            alone,
            look,
            "--",
            None,
        )
    panel.plot([], [], "-", color="0.3", label="of the vote")
    panel.plot([], [], "--", color="0.3", label="of one model")
    _rows(panel, "k, rows removed")
    panel.set_ylabel("share of predictions that stand")
    panel.set_title("removals that estimators choose")
    panel.legend(fontsize=6.5, frameon=False, loc="lower left")


def _assaults(
    panel: Axes,
    found: Found,
    attack: str,
) -> None:
    own = [assault for assault in found.assaults if assault.attack == attack]
    model: dict[int, list[float]] = {}
    for assault in own:
        model.setdefault(assault.rows, []).append(assault.model)
    _curve(
        panel,
        _means(model),
        GREY,
        "-",
        "success against one model",
    )
    certifiers = list(dict.fromkeys(assault.certifier for assault in own))
    for number, certifier in enumerate(certifiers):
        changed: dict[int, list[float]] = {}
        bound: dict[int, list[float]] = {}
        for assault in own:
            if assault.certifier == certifier:
                changed.setdefault(assault.rows, []).append(assault.changed)
                bound.setdefault(assault.rows, []).append(assault.open)
        look = Look.number(number)
        _curve(
            panel,
            _means(changed),
            look,
            "-",
            f"labels changed, {certifier}",
        )
        _curve(
            panel,
            _means(bound),
            look,
            ":",
            f"bound on these, {certifier}",
        )
    _rows(panel, "rows poisoned")
    panel.set_ylabel("share of attacked points")
    panel.set_title(attack)


def _means(values: Mapping[int, list[float]]) -> dict[int, Mean]:
    return {rows: mean(values[rows]) for rows in sorted(values)}


def _curve(
    panel: Axes,
    known: Mapping[int, Mean],
    look: Look,
    line: str,
    label: str | None,
) -> None:
    values = [one.value for one in known.values()]
    panel.plot(
        list(known),
        values,
        line,
        color=look.colour,
        marker=look.marker,
        markersize=5.0,
        linewidth=1.3,
        label=label,
    )


def _rows(
    panel: Axes,
    label: str,
) -> None:
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:g}")
    panel.set_ylim(-0.03, 1.03)
    panel.set_xlabel(label)
