"""The plots of the page: those for which the run has the logs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from experiments.evaluation.load import Results
from experiments.evaluation.summary import Summary
from experiments.report.html.images import figure_uri
from experiments.report.plots.certified import certified_figure
from experiments.report.plots.curve import curve_figure
from experiments.report.plots.roc import roc_figure
from poisonbench.errors import ConfigError


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        title: its heading.
        told: what it shows, in words.
        image: its address, which holds it.
    """

    title: str
    told: str
    image: str


def plots(results: Results, summary: Summary) -> list[Plot]:
    """Returns the plots for which there are rows, of the same rows as the tables."""
    found = []
    for title, told, draw in _drawn(results, summary):
        try:
            image = figure_uri(draw)
        except ConfigError:  # no attack has two values of the hyperparameter
            continue
        found.append(Plot(title, told, image))
    return found


def _drawn(
    results: Results, summary: Summary
) -> Iterator[tuple[str, str, Callable[[], Figure]]]:
    """The title, the words and the drawing function of each plot that may be drawn."""
    detections = summary.rows["detections"]
    if any(row.metrics["auroc"].value is not None for row in detections):
        told = (
            "The share of attacked test points found (true-positive rate) against the share of "
            "clean ones flagged, mean over the seeds; a panel for each attack. The table of "
            "detection has the areas as figures."
        )
        yield "ROC curves", told, partial(roc_figure, detections)
    victims = summary.rows["victims"]
    if victims:
        told = (
            "Attack success and clean accuracy against the budget, with 95 % bands over the "
            "seeds. The table of victims has the figures."
        )
        yield "Budget", told, partial(curve_figure, victims)
    certificates = results.of("certify")
    if certificates:
        told = (
            "The share of test points that stay right whatever number of training rows is "
            "inserted or deleted. The table of certifiers has figures at some numbers."
        )
        yield "Certified accuracy", told, partial(certified_figure, certificates)
