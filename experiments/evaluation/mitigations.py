"""What answers to poison are worth, from the logs alone: mitigations before and after, and certified accuracy by radius."""

from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Metric, rate
from experiments.evaluation.rows import Row, marks, number, with_wilson
from poisonbench.log import Record
from poisonbench.roles import CLEAN, COVER, POISON


def mitigation(record: Record, scene: Record) -> Row:
    """Returns the row of one mitigation in one scene: the attack and the accuracy before and after, and what it cost in rows."""
    role, removed = scene.data["poison/role"], record.data["removed"].astype(bool)
    wanted = record.data["targets/wanted"]
    metrics: dict[str, Metric] = {}
    for when in ("before", "after"):
        metrics[f"asr_{when}"] = rate(
            record.data[f"targets/{when}"] == wanted, "no attacked points"
        )
        metrics[f"accuracy_{when}"] = rate(
            record.data[f"test/{when}"].astype(bool), "empty test set"
        )
    for key, kind in (("poison", POISON), ("clean", CLEAN), ("cover", COVER)):
        metrics[f"{key}_removed"] = rate(removed[role == kind], f"no {key} rows")
    metrics |= {key: number(record, key) for key in ("retrainings", "seconds")}
    counts = {
        "targets": len(wanted),
        "test": len(record.data["test/after"]),
        "removed": int(removed.sum()),
    }
    counts |= {
        key: int((role == kind).sum())
        for key, kind in (("poison", POISON), ("clean", CLEAN), ("cover", COVER))
    }
    name, seed = settings(record)
    row = Row(name, (seed,), metrics, counts, marks(record))
    return Row(name, (seed,), with_wilson(metrics, [row]), counts, row.uses)
