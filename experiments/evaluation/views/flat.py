"""A row as a flat table of values: what every export for programs is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.evaluation.poisoning import Poisoning
from experiments.evaluation.rows import Row
from experiments.plan.identity import short


def named_columns(row: Row) -> dict[str, Any]:
    """Returns what a row is of: seeds, settings as PART.FIELD, budget, counts as n.NAME."""
    line: dict[str, Any] = {
        "seeds": " ".join(map(str, row.seeds)),
        "scenes": row.scenes,
        "uses": row.uses,
    }
    for part, config in row.settings.items():
        for key, value in (config or {}).items():
            if not isinstance(value, float):  # which keeps its full precision
                value = short(value)
            line[f"{part}.{key}"] = value
    for key, number in budget(row.poisoned).items():
        line[f"budget.{key}"] = number
    for key, count in row.counts.items():
        line[f"n.{key}"] = count
    return line


def budget(scenes: Sequence[Poisoning]) -> dict[str, float | None]:
    """Returns the budget asked, None where there is none or several, and what was poisoned.

    Rows are means over the scenes; the share is that of the clean training rows, as the budget is.
    """
    return {
        "asked": _common([scene.asked for scene in scenes]),
        "achieved": _mean([scene.share for scene in scenes]),
        "poison_rows": _mean([scene.poison for scene in scenes]),
        "cover_rows": _mean([scene.cover for scene in scenes]),
        "train_rows": _mean([scene.rows for scene in scenes]),
    }


def _common(values: Sequence[float | None]) -> float | None:
    """The value that all have, None if they differ."""
    if len(set(values)) != 1:
        return None
    return values[0]


def _mean(values: Sequence[float]) -> float | None:
    if not values:
        return None
    return float(np.mean(values))
