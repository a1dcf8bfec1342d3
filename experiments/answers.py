"""What answers to poison are worth, from the logs alone: mitigations before and after, and certified accuracy by radius."""

import numpy as np

from experiments.metrics import Array, Metric, rate
from experiments.results import settings
from experiments.rows import Row, marks, number, with_wilson
from poisonbench.contracts import CLEAN, COVER, POISON
from poisonbench.log import Record

RADII = (0, 1, 2, 4, 8, 16, 32)  # at which certified accuracy is told


def mitigation(record: Record, scene: Record) -> Row:
    """Returns the row of one mitigation in one scene: the attack and the accuracy before and after, and what it cost in rows."""
    role, removed = scene.data["poison/role"], record.data["removed"].astype(bool)
    wanted = record.data["targets/wanted"]
    metrics: dict[str, Metric] = {}
    for when in ("before", "after"):
        metrics[f"asr_{when}"] = rate(record.data[f"targets/{when}"] == wanted, "no attacked points")
        metrics[f"accuracy_{when}"] = rate(record.data[f"test/{when}"].astype(bool), "empty test set")
    for key, kind in (("poison", POISON), ("clean", CLEAN), ("cover", COVER)):
        metrics[f"{key}_removed"] = rate(removed[role == kind], f"no {key} rows")
    metrics |= {key: number(record, key) for key in ("retrainings", "seconds")}
    counts = {"targets": len(wanted), "test": len(record.data["test/after"]), "removed": int(removed.sum())}
    counts |= {key: int((role == kind).sum()) for key, kind in (("poison", POISON), ("clean", CLEAN), ("cover", COVER))}
    name, seed = settings(record)
    row = Row(name, (seed,), metrics, counts, marks(record))
    return Row(name, (seed,), with_wilson(metrics, [row]), counts, row.uses)


def certified(label: Array, radius: Array, truth: Array, at: int) -> Metric:
    """Share of the points with the true label and a radius of at least `at`: no so many changed rows can make them wrong."""
    return rate((label == truth) & (radius >= at), "empty test set")


def certificate(record: Record) -> Row:
    """Returns the row of one certifier in one scene; the attacked points are held against what the attacker wants."""
    label, radius, truth = (record.data[key] for key in ("label", "radius", "truth"))
    metrics = {f"certified_{at}": certified(label, radius, truth, at) for at in RADII}
    metrics["accuracy"] = rate(label == truth, "empty test set")
    metrics["median_radius"] = Metric(float(np.median(radius))) if len(radius) else Metric(None, "empty test set", defined=0)
    metrics["asr"] = rate(record.data["targets/label"] == record.data["targets/wanted"], "no attacked points")
    metrics["seconds"] = number(record, "seconds")
    name, seed = settings(record)
    row = Row(name, (seed,), metrics, {"test": len(label), "targets": len(record.data["targets/wanted"])}, marks(record))
    return Row(name, (seed,), with_wilson(metrics, [row]), row.counts, row.uses)
