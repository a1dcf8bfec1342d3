"""Memorisation: how far the self-influence of training rows tells poison rows from clean ones."""

from dataclasses import replace

import numpy as np

from experiments.evaluation.kinds.filters import identification
from experiments.evaluation.metrics import Array, Metric, not_finite, undefined
from experiments.evaluation.rows import Row, number
from poisonbench.log import Record, names
from poisonbench.roles import CLEAN, POISON


def memorised(record: Record, scene: Record) -> Row:
    """Returns the metrics of a filter that ranks by self-influence, and medians of the roles."""
    row = identification(record, scene)
    role = scene.data[names.POISON_ROLE]
    score = record.data[names.SCORE].astype(np.float64)
    medians = {
        "median_poison": median_share(score[role == POISON], score, "poison"),
        "median_clean": median_share(score[role == CLEAN], score, "clean"),
        "peak_bytes": number(record, "peak_bytes"),
    }
    return replace(row, metrics=row.metrics | medians)


def median_share(rows: Array, every: Array, noun: str) -> Metric:
    """Returns the median of some rows as a share of the largest value of all rows.

    Args:
        rows: (k,) self-influence of these.
        every: (n,) self-influence of all.
        noun: what the rows are, for the reason why it is undefined.
    """
    if not len(rows):
        return undefined(f"no {noun} rows")
    bad = not_finite(every)
    if bad:
        return undefined(bad)
    largest = float(every.max())
    if largest <= 0:
        return undefined("no positive self-influence")
    return Metric(float(np.median(rows)) / largest)
