"""Certifiers: the accuracy that their certificates guarantee at each radius.

The radius of a test point is the number of training rows that may be inserted or deleted,
whichever, without a change of its label.
"""

import numpy as np

from experiments.evaluation.metrics import Array, Metric, rate, undefined
from experiments.evaluation.rows import Row, number, scene_row
from poisonbench.log import Record, names

RADII = (0, 1, 2, 4, 8, 16, 32)  # at which certified accuracy is told
EMPTY = "empty test set"


def certified(label: Array, radius: Array, truth: Array, at: int) -> Metric:
    """Returns the share of the points that are right and stay so under `at` changed rows.

    Args:
        label: (m,) certified labels.
        radius: (m,) certified radii, -1 where the certifier abstains.
        truth: (m,) true labels.
        at: changed training rows.
    """
    right = label == truth
    safe = radius >= at
    return rate(right & safe, EMPTY)


def certificate(record: Record, scene: Record) -> Row:
    """Returns certified accuracies, accuracy, median radius, attack success rate and seconds."""
    data = record.data
    label = data[names.LABEL]
    radius = data[names.RADIUS]
    truth = data[names.TRUTH]
    wanted = data[names.TARGETS_WANTED]
    hits = data[names.TARGETS_LABEL] == wanted

    metrics = {}
    for at in RADII:
        metrics[f"certified_{at}"] = certified(label, radius, truth, at)
    metrics["accuracy"] = rate(label == truth, EMPTY)
    metrics["median_radius"] = _median(radius)
    metrics["asr"] = rate(hits, "no attacked points")
    metrics["seconds"] = number(record, "seconds")
    counts = {
        "test": len(label),
        "targets": len(wanted),
    }
    return scene_row(record, scene, metrics, counts)


def _median(radius: Array) -> Metric:
    if not len(radius):
        return undefined(EMPTY)
    return Metric(float(np.median(radius)))
