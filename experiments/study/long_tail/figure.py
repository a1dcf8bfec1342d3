"""The long tail: how many rows are memorised, what their removal costs, who ranks them alike."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.pictures.look import save
from experiments.study.long_tail.found import Found, rank_agreement
from experiments.study.long_tail.study import LEAST, MOST
from experiments.study.means import mean

SIZE = (12.5, 3.8)  # inches
SHOWN = {MOST: "#D55E00", LEAST: "#0072B2", "random": "0.4"}
BINS = 40


def draw(found: Found, path: Path) -> None:
    """Saves the figure, without a display."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=SIZE, layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _tail(left, found)
        _removal(middle, found)
        _agreement(right, found)
        save(figure, path)


def _tail(panel: Axes, found: Found) -> None:
    """How many rows are memorised how much."""
    panel.hist(
        found.memorised,
        bins=BINS,
        color="0.45",
    )
    panel.set_yscale("log")
    panel.set_xlabel("memorisation of a row")
    panel.set_ylabel("rows")
    panel.set_title("how much rows are memorised")


def _removal(panel: Axes, found: Found) -> None:
    """Accuracy without the most and the least memorised, and without random rows."""
    for way, colour in SHOWN.items():
        of_shares = found.accuracy[found.ways.index(way)]
        means = [mean(runs) for runs in of_shares]
        middle = np.array([one.value for one in means])
        low = np.array([one.low for one in means])
        high = np.array([one.high for one in means])
        panel.plot(
            found.shares,
            middle,
            "o-",
            color=colour,
            markersize=4,
            label=way,
        )
        panel.fill_between(
            found.shares,
            low,
            high,
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
    panel.set_xlabel("share of the training rows removed")
    panel.set_ylabel("test accuracy")
    panel.set_title("accuracy without them")
    panel.legend(frameon=False)


def _agreement(panel: Axes, found: Found) -> None:
    """Rank correlation of every estimator with memorisation, the best on top."""
    means = {}
    for name, of_runs in zip(found.names, found.own, strict=True):
        ranks = [rank_agreement(own, found.memorised) for own in of_runs]
        means[name] = mean(ranks)
    names = sorted(means, key=lambda name: means[name].value)
    for place, name in enumerate(names):
        one = means[name]
        panel.plot([one.low, one.high], [place, place], color="#0072B2", alpha=0.5)
        panel.plot([one.value], [place], "o", color="#0072B2", markersize=5)
    between = rank_agreement(*found.halves)
    panel.axvline(between, color="0.5", linestyle="--", linewidth=1)
    panel.axvline(0, color="0.85", linewidth=1)
    panel.set_yticks(range(len(names)), names)
    panel.set_xlabel("rank correlation with memorisation")
    panel.set_title("dashed: the two halves of the models")
