"""What certificates guarantee: accuracy at each radius."""

import numpy as np

from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Array, Metric, rate
from experiments.evaluation.rows import Row, marks, number, with_wilson
from poisonbench.log import Record

RADII = (0, 1, 2, 4, 8, 16, 32)  # at which certified accuracy is told


def certified(label: Array, radius: Array, truth: Array, at: int) -> Metric:
    """Share of the points with the true label and a radius of at least `at`: no so many changed rows can make them wrong."""
    return rate((label == truth) & (radius >= at), "empty test set")


def certificate(record: Record) -> Row:
    """Returns the row of one certifier in one scene; the attacked points are held against what the attacker wants."""
    label, radius, truth = (record.data[key] for key in ("label", "radius", "truth"))
    metrics = {f"certified_{at}": certified(label, radius, truth, at) for at in RADII}
    metrics["accuracy"] = rate(label == truth, "empty test set")
    metrics["median_radius"] = (
        Metric(float(np.median(radius)))
        if len(radius)
        else Metric(None, "empty test set", defined=0)
    )
    metrics["asr"] = rate(
        record.data["targets/label"] == record.data["targets/wanted"], "no attacked points"
    )
    metrics["seconds"] = number(record, "seconds")
    name, seed = settings(record)
    row = Row(
        name,
        (seed,),
        metrics,
        {"test": len(label), "targets": len(record.data["targets/wanted"])},
        marks(record),
    )
    return Row(name, (seed,), with_wilson(metrics, [row]), row.counts, row.uses)
