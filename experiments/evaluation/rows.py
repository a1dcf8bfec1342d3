"""Rows of results: the metrics of one scene, and their means over seeds and over attacks."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experiments.evaluation.intervals import wilson
from experiments.evaluation.load import settings
from experiments.evaluation.metrics import Metric, mean_metric, undefined
from experiments.evaluation.poisoning import Poisoning
from experiments.evaluation.samples import Intervals, Sample
from poisonbench.log import Record

# what a method may use that a table must show: ground truth, clean data, the other probe points
MARKED = ("oracle", "reference", "probe")

# rates of independent points, which get Wilson intervals, and the count of these points
COUNTED = {
    "asr": "targets",
    "asr_before": "targets",
    "asr_after": "targets",
    "clean_accuracy": "clean",
    "accuracy_before": "test",
    "accuracy_after": "test",
}
LARGEST = ("peak_bytes",)  # of which the largest is told, not the mean
WORST = ("auroc", "auroc_matched")  # of which a mean over attacks also tells the worst


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
    return replace(row, metrics=metrics | _wilson_intervals(metrics, [row]))


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


def aggregate(rows: Iterable[Row], drop: Collection[str] = ()) -> list[Row]:
    """Returns means over the seeds: one row for each group of rows that differ in nothing else.

    Args:
        rows: of one scene each.
        drop: settings to average over too: ("attack", "probe") for the costs of estimators.

    Returns:
        The means, in the order in which their groups first appear.
    """
    merged = []
    for group in _grouped(rows, drop):
        samples = [sample for row in group for sample in row.samples]
        merged.append(_mean_row(group, [samples], each="scenes", drop=drop))
    return merged


def mean_over(rows: Iterable[Row], attacks: Collection[str] | None = None) -> list[Row]:
    """Returns means of aggregated rows over the attacks, every attack setting alike.

    They also tell the worst of the metrics `WORST`. In the intervals the attacks stand as they are;
    the seeds are resampled within each.

    Args:
        rows: from `aggregate`.
        attacks: names of the attacks, None for all.
    """
    chosen = [row for row in rows if attacks is None or row.settings["attack"]["name"] in attacks]
    means = []
    for group in _grouped(chosen, ("attack",)):
        samples = [row.samples for row in group]
        mean = _mean_row(group, samples, each="attacks", drop=("attack",))
        worst = {}
        for key in WORST:
            if key in mean.metrics:
                parts = [row.metrics[key] for row in group]
                worst[f"{key}_worst"] = mean_metric(parts, "attacks", min)
        attack = {"attack": {"name": f"mean of {len(group)} attacks"}}
        means.append(replace(mean, settings=attack | mean.settings, metrics=mean.metrics | worst))
    return means


def _marks(record: Record) -> str:
    declared = str(record.attributes.get("uses", "")).split(",")
    uses = [use.strip() for use in declared]
    return ", ".join(use for use in uses if use in MARKED)


def _without(settings: dict[str, Any], drop: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in drop}


def _grouped(rows: Iterable[Row], drop: Collection[str]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        key = json.dumps(_without(row.settings, drop), sort_keys=True)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _mean_row(
    group: Sequence[Row], samples: Sequence[Sequence[Sample]], each: str, drop: Collection[str]
) -> Row:
    """The mean of some rows.

    Args:
        group: the rows; the settings are those of the first.
        samples: their samples, in groups for the bootstrap.
        each: what each row stands for, in the plural.
        drop: settings that the mean does not have.
    """
    first = group[0]
    metrics = {key: _mean_of(key, group, each) for key in first.metrics}
    for key, interval in _bootstrap_intervals(samples).items():
        metrics[key] = replace(metrics[key], interval=interval)
    uses = [use for row in group for use in row.uses.split(", ") if use]
    return Row(
        settings=_without(first.settings, drop),
        seeds=tuple(sorted({seed for row in group for seed in row.seeds})),
        metrics=metrics | _wilson_intervals(metrics, group),
        counts={key: sum(row.counts[key] for row in group) for key in first.counts},
        uses=", ".join(dict.fromkeys(uses)),
        scenes=sum(row.scenes for row in group),
        samples=tuple(sample for row in group for sample in row.samples),
        poisoned=tuple(poisoning for row in group for poisoning in row.poisoned),
    )


def _mean_of(key: str, group: Sequence[Row], each: str) -> Metric:
    parts = [row.metrics[key] for row in group]
    if key in LARGEST:
        return mean_metric(parts, each, max)
    return mean_metric(parts, each)


def _bootstrap_intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
    """The intervals that the samples' own kind gives; none without samples."""
    kinds = {type(sample) for samples in groups for sample in samples}
    found: Intervals = {}
    for kind in kinds:
        found |= kind.intervals(groups)
    return found


def _wilson_intervals(metrics: dict[str, Metric], group: Sequence[Row]) -> dict[str, Metric]:
    """The metrics of `COUNTED`, with intervals from the rates and counts of the rows."""
    found = {}
    for key, count in COUNTED.items():
        rates = []
        points = 0
        for row in group:
            value = row.metrics[key].value if key in row.metrics else None
            if value is not None:
                rates.append(value)
                points += row.counts[count]
        if rates:
            found[key] = replace(metrics[key], interval=wilson(rates, points))
    return found
