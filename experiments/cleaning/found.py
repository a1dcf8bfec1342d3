"""How well a criterion finds planted noise, from the logs of a cleaning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.evaluation.intervals import (
    Measured,
    auroc_measured,
    mean_interval,
    rate_measured,
)
from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.ranking import Counts, recall_at_size
from poisonbench.log import Record, names

Marks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Found:
    """How well a criterion finds planted noise, over the seeds.

    Attributes:
        auroc: of planted rows against all others.
        recall: share of the planted rows among as many rows of the highest scores.
        suspects: rows that the criterion itself marks.
        precision: share of these that are planted.
        of_planted: share of the planted rows that are marked.
    """

    auroc: Metric
    recall: Metric
    suspects: Metric
    precision: Metric
    of_planted: Metric


def planted_rows(record: Record) -> Marks:
    """Returns the rows whose label is not that of the data, (n,)."""
    label = record.data[names.ROW_LABEL]
    given = record.data[names.ROW_GIVEN]
    differs: Marks = label != given
    return differs


def found_by(cells: Sequence[Record], number: int) -> Found:
    """Returns what the criterion of that number found, over the logs of all seeds."""
    aurocs = []
    recalls = []
    marked = []
    precision = []
    of_planted = []
    for cell in cells:
        planted = planted_rows(cell)
        scores = cell.data[names.CRITERIA_SCORE][number]
        noisy = bool(planted.any())
        if noisy:
            pair = _apart(scores, planted)
            aurocs.append(auroc_measured(pair))
            counts = Counts.of(*pair)
            recall = float(recall_at_size(counts))
            recalls.append(rate_measured(recall, len(pair[0])))
        suspect = cell.data.get(suspects_of(number))
        if suspect is None:
            continue
        marked.append(int(suspect.sum()))
        hits = suspect & planted
        if noisy:
            of_planted.append(_share(hits, planted))
        if noisy and suspect.any():
            precision.append(_share(hits, suspect))
    suspects = undefined("")
    if marked:
        mean = float(np.mean(marked))
        suspects = Metric(mean)
    return Found(
        auroc=mean_of(aurocs),
        recall=mean_of(recalls),
        suspects=suspects,
        precision=mean_of(precision),
        of_planted=mean_of(of_planted),
    )


def suspects_of(number: int) -> str:
    """Returns the data set in which a criterion marks rows."""
    return f"{names.CRITERIA_TOLD}{number}/{names.SUSPECT}"


def _apart(scores: Array, planted: Marks) -> tuple[Array, Array]:
    """The scores of planted rows, and those of all others; what is no number comes last."""
    sound = np.nan_to_num(scores, nan=-np.inf)
    own = sound[planted]
    others = sound[~planted]
    return own, others


def _share(hits: Marks, of: Marks) -> Measured:
    total = int(of.sum())
    rate = int(hits.sum()) / total
    return rate_measured(rate, total)


def mean_of(scenes: Sequence[Measured]) -> Metric:
    """Returns the mean over seeds with its interval; undefined over none."""
    if not scenes:
        return undefined("")
    values = [scene.value for scene in scenes]
    return Metric(
        value=float(np.mean(values)),
        interval=mean_interval([scenes]),
    )
