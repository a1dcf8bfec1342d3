"""The plots of the page: those for which the run has the logs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import Results
from experiments.evaluation.summary import Summary
from experiments.report.html.images import figure_uri
from experiments.report.plots.kinds import DRAWN, Source
from poisonbench.errors import PoisonbenchError
from poisonbench.log import Record

MOST_SCENES = 4  # of which influence is read
MOST_BYTES = 96 << 20  # of files of influence that are read
# kind of plot -> its heading, and what it shows
TOLD = {
    "roc": (
        "ROC curves",
        "The share of attacked test points found (true-positive rate) against the share of clean "
        "ones flagged, mean over the seeds; a panel for each attack. The table of detection has "
        "the areas.",
    ),
    "auc-by-attack": (
        "AUROC by attack",
        "A line for each detector with its estimator, a column for each attack. The figures are "
        "those of the table of detection.",
    ),
    "auc-by-success": (
        "AUROC against attack success",
        "A panel for each detector, a point for each attack and estimator: is it good only where "
        "the attack is weak, or strong? The figures are those of the tables of victims and "
        "detection.",
    ),
    "auc-by-cost": (
        "AUROC against the cost of influence",
        "What an estimator that takes longer buys. The figures are those of the tables of costs "
        "and detection.",
    ),
    "influence": (
        "Distribution of influence",
        "How the influences of all training rows on one attacked and one clean point are "
        "distributed, with the poison marked.",
    ),
    "curve": (
        "Budget",
        "Attack success and clean accuracy against the budget, with 95 % bands. The table of "
        "victims has the figures.",
    ),
    "certified": (
        "Certified accuracy",
        "The share of test points that stay right whatever number of training rows is inserted or "
        "deleted: without an attack, and the mean over the attacks, with 95 % bands over the "
        "seeds. The table of certifiers has each attack at some numbers.",
    ),
    "agreement": (
        "Agreement of estimators",
        "Spearman's rank correlation of the influences by two estimators, of the first "
        f"{MOST_SCENES} scenes that have two; where groups of rows were left out, also with "
        "training again.",
    ),
}


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


# of audits alone, in the place of the above
TOLD_OF_AUDITS = {
    "influence": (
        "Distribution of influence",
        "How the influences of all training rows on the most suspicious point are distributed: a "
        "prediction that rests on a few rows has them far out.",
    ),
}


def plots(results: Results, summary: Summary) -> list[Plot]:
    """Returns the plots for which there are rows or logs, of the same rows as the tables."""
    source = Source(_few(results), summary)
    found = []
    headings = TOLD
    if results.of("scene") and all(map(is_audit, results.of("scene"))):
        headings = TOLD | TOLD_OF_AUDITS
    for kind, (title, told) in headings.items():
        if not _has_auroc(summary) and kind in ("roc", "auc-by-attack"):
            continue
        try:
            image = figure_uri(partial(DRAWN[kind], source))
        except (
            PoisonbenchError
        ):  # the run lacks what it shows; damage is listed elsewhere
            continue
        found.append(Plot(title, told, image))
    return found


def _has_auroc(summary: Summary) -> bool:
    detections = summary.rows["detections"]
    return any(row.metrics["auroc"].value is not None for row in detections)


def _few(results: Results) -> Results:
    """The results with the influence of a few scenes, which is large."""
    by_scene: dict[Path, list[Record]] = {}
    for record in results.of("influence"):
        by_scene.setdefault(record.path.parent, []).append(record)
    kept: list[Record] = []
    size = 0
    for records in sorted(by_scene.values(), key=_fewest_last)[:MOST_SCENES]:
        size += sum(record.path.stat().st_size for record in records)
        if size <= MOST_BYTES:
            kept += records
    return replace(results, records={**results.records, "influence": tuple(kept)})


def _fewest_last(records: Sequence[Record]) -> int:
    """A sort key: scenes with several estimators come first, otherwise as they were."""
    return -len(records)
