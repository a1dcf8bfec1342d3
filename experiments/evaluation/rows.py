"""Rows of results: the metrics of one method in one scene."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experiments.evaluation.intervals import mean_interval, rate_measured
from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Metric, undefined
from experiments.evaluation.poisoning import Poisoning
from experiments.evaluation.samples import Sample
from poisonbench.log import Record

# what a method may use that a table must show: ground truth, clean data, the other probe points
MARKED = ("oracle", "reference", "probe", "retraining")

# rates of independent points, which have an interval, and the count of these points
COUNTED = {
    "asr": "targets",
    "asr_before": "targets",
    "asr_after": "targets",
    "clean_accuracy": "clean",
    "accuracy_before": "test",
    "accuracy_after": "test",
}


@dataclass(frozen=True, eq=False)
class Row:
    """The metrics of one method in one scene, or their means over scenes.

    Attributes:
        settings: what names the row: data set, recipe, attack, ..., method; not the seed.
        seeds: of the scenes.
        metrics: by name.
        counts: points or training rows by name, summed over the scenes.
        uses: what the method takes beyond the victim, as far as a table must show it.
        scenes: how many.
        samples: the scores behind the metrics, one sample per scene.
        poisoned: how much was poisoned, one value per scene.
    """

    settings: dict[str, Any]
    seeds: tuple[int, ...]
    metrics: dict[str, Metric]
    counts: dict[str, int] = field(default_factory=dict)
    uses: str = ""
    scenes: int = 1
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    poisoned: tuple[Poisoning, ...] = ()


def scene_row(
    record: Record,
    scene: Record,
    metrics: dict[str, Metric],
    counts: dict[str, int] | None = None,
    samples: tuple[Sample, ...] = (),
) -> Row:
    """Returns the row of one log, with the intervals of its rates.

    Args:
        record: the log.
        scene: the log of its scene; the same for a scene itself.
        metrics: by name.
        counts: by name; those of `COUNTED` that belong to a metric must be there.
        samples: the scores behind the metrics.
    """
    name, seed = settings(record)
    row = Row(
        settings=name,
        seeds=(seed,),
        metrics=metrics,
        counts=counts or {},
        uses=_marks(record),
        samples=samples,
        poisoned=(Poisoning.of(scene),),
    )
    return replace(row, metrics=metrics | rate_intervals(metrics, [[row]]))


def number(record: Record, name: str) -> Metric:
    """Returns an attribute of a log as a metric, undefined if it is not finite or not measured."""
    value = record.attributes.get(name)
    if isinstance(value, float) and not np.isfinite(value):
        return undefined(f"{name} is {value}")
    if not isinstance(value, int | float):
        return undefined(f"{name} was not measured")
    if name == "peak_bytes" and value < 0:
        return undefined(f"{name} was not measured")
    return Metric(float(value))


def _marks(record: Record) -> str:
    declared = str(record.attributes.get("uses", ""))
    uses = [use.strip() for use in declared.split(",")]
    marked = [use for use in uses if use in MARKED]
    return ", ".join(marked)


def rate_intervals(
    metrics: dict[str, Metric], groups: Sequence[Sequence[Row]]
) -> dict[str, Metric]:
    """Returns the metrics of `COUNTED` with intervals.

    Args:
        metrics: means over groups of means over scenes.
        groups: for each group the rows of its scenes.
    """
    found = {}
    for key, count in COUNTED.items():
        if key not in metrics:
            continue
        able = []
        for rows in groups:
            measured = []
            for row in rows:
                value = row.metrics[key].value
                if value is not None:
                    measured.append(rate_measured(value, row.counts[count]))
            if measured:
                able.append(measured)
        if able:
            found[key] = replace(metrics[key], interval=mean_interval(able))
    return found
