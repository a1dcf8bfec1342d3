"""Groups of training rows: what they give predictions, and how well estimates order this."""

import numpy as np

from experiments.evaluation.metrics import Array, Metric, undefined
from experiments.evaluation.rows import Row, number, scene_row
from poisonbench.log import Record, names

FEWEST = 3  # pairs of which a correlation is told
NONE = "no groups"


def group_effects(record: Record, scene: Record) -> Row:
    """Returns mean effects over all pairs of a group and a point, rank correlations and seconds.

    An effect is the loss of a point without the group less its loss with it.
    """
    size = record.data[names.GROUP_SIZE]
    retraining = record.data[names.EFFECT_RETRAINING].astype(np.float64)
    first = record.data[names.EFFECT_FIRST].astype(np.float64)
    second = record.data[names.EFFECT_SECOND].astype(np.float64)
    metrics = {
        "size": _mean(size),
        "retraining": _mean(retraining),
        "first": _mean(first),
        "second": _mean(second),
        "rank_first": rank_correlation(first, retraining),
        "rank_second": rank_correlation(second, retraining),
        "seconds": number(record, "seconds"),
    }
    for way in ("retraining", "first", "second"):
        metrics[f"seconds_{way}"] = number(record, f"seconds_{way}")
    return scene_row(
        record, scene, metrics, {"groups": len(size), "pairs": len(retraining)}
    )


def _mean(values: Array) -> Metric:
    if not len(values):
        return undefined(NONE)
    if not np.isfinite(values).all():
        return undefined("effects that are not finite")
    return Metric(float(values.mean()))


def rank_correlation(estimate: Array, truth: Array) -> Metric:
    """Returns Spearman's correlation of two vectors (q,); tied values share their mean rank."""
    if not len(truth):
        return undefined(NONE)
    if len(truth) < FEWEST:
        return undefined(f"fewer than {FEWEST} pairs")
    if not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        return undefined("effects that are not finite")
    a = ranks(estimate)
    b = ranks(truth)
    if a.std() == 0 or b.std() == 0:
        return undefined("constant effects")
    return Metric(float(np.corrcoef(a, b)[0, 1]))


def ranks(values: Array) -> Array:
    """Returns the ranks of the values from 0, the mean of their ranks for tied ones: (q,)."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, "left")
    last = np.searchsorted(ordered, values, "right") - 1
    mean: Array = (first + last) / 2
    return mean
