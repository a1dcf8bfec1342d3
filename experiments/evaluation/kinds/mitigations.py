"""Mitigations: attack success and accuracy before and after, and which rows they removed."""

from experiments.evaluation.metrics import rate
from experiments.evaluation.rows import Row, number, scene_row
from poisonbench.log import Record, names
from poisonbench.roles import CLEAN, COVER, POISON

ROLES = {"poison": POISON, "clean": CLEAN, "cover": COVER}


def mitigation(record: Record, scene: Record) -> Row:
    """Returns rates before and after, the shares of each role removed, retrainings and seconds."""
    role = scene.data[names.POISON_ROLE]
    removed = record.data[names.REMOVED].astype(bool)
    data = record.data
    wanted = data[names.TARGETS_WANTED]
    hits_before = data[names.TARGETS_BEFORE] == wanted
    hits_after = data[names.TARGETS_AFTER] == wanted
    right_before = data[names.TEST_BEFORE].astype(bool)
    right_after = data[names.TEST_AFTER].astype(bool)

    metrics = {
        "asr_before": rate(hits_before, "no attacked points"),
        "accuracy_before": rate(right_before, "empty test set"),
        "asr_after": rate(hits_after, "no attacked points"),
        "accuracy_after": rate(right_after, "empty test set"),
    }
    counts = {
        "targets": len(wanted),
        "test": len(right_after),
        "removed": int(removed.sum()),
    }
    for name, value in ROLES.items():
        rows = role == value
        metrics[f"{name}_removed"] = rate(removed[rows], f"no {name} rows")
        counts[name] = int(rows.sum())
    for name in ("retrainings", "seconds"):
        metrics[name] = number(record, name)
    return scene_row(record, scene, metrics, counts)
