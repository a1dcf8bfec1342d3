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
    return rate((label == truth) & (radius >= at), EMPTY)


def certificate(record: Record, scene: Record) -> Row:
    """Returns certified accuracies, accuracy, median radius, attack success rate and seconds."""
    label = record.data[names.LABEL]
    radius = record.data[names.RADIUS]
    truth = record.data[names.TRUTH]
    wanted = record.data[names.TARGETS_WANTED]
    hits = record.data[names.TARGETS_LABEL] == wanted

    metrics = {f"certified_{at}": certified(label, radius, truth, at) for at in RADII}
    metrics["accuracy"] = rate(label == truth, EMPTY)
    metrics["median_radius"] = undefined(EMPTY)
    if len(radius):
        metrics["median_radius"] = Metric(float(np.median(radius)))
    metrics["asr"] = rate(hits, "no attacked points")
    metrics["seconds"] = number(record, "seconds")
    return scene_row(record, scene, metrics, {"test": len(label), "targets": len(wanted)})
