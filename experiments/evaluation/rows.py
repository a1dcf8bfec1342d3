"""Rows of results: metrics with what names them; `aggregate` and `mean_over` turn rows into rows, with intervals."""

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experiments.evaluation.metrics import Metric, Sample, bootstrap, mean_metric, wilson
from poisonbench.log import Record

MARKED = (
    "oracle",
    "reference",
    "probe",
)  # uses that a table must show: ground truth, clean data, the other probe points
RESAMPLED = {
    "auroc": False,
    "auroc_matched": True,
}  # metrics with a bootstrap interval: against the matched controls alone?
COUNTED = {  # rates of independent points, and the count of those
    "asr": "targets",
    "asr_before": "targets",
    "asr_after": "targets",
    "clean_accuracy": "clean",
    "accuracy_before": "test",
    "accuracy_after": "test",
}

Intervals = dict[str, tuple[float, float]]


def detection_intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
    """Bootstrap intervals of the AUROC: groups are averaged, scenes resampled within them."""
    found = {}
    for key, matched in RESAMPLED.items():
        pairs = [
            [(s.attacked, s.against(matched)) for s in scenes if not s.undefined(matched)]
            for scenes in groups
        ]
        if defined := [scenes for scenes in pairs if scenes]:
            found[key] = bootstrap(defined)
    return found


@dataclass(frozen=True, eq=False)
class Row:
    """Metrics of one scene, or of several: `settings` names it (without the seed), `uses` what it takes beyond the victim.

    `samples` are the scores behind the metrics, a scene each, and `intervals` what makes their bootstrap intervals.
    """

    settings: dict[str, Any]
    seeds: tuple[int, ...]
    metrics: dict[str, Metric]
    counts: dict[str, int] = field(default_factory=dict)
    uses: str = ""
    scenes: int = 1
    samples: tuple[Sample, ...] = field(default=(), repr=False)
    intervals: Callable[[Sequence[Sequence[Sample]]], Intervals] = field(
        default=detection_intervals, repr=False
    )


def marks(record: Record) -> str:
    """Returns what a table must show of that which a defense says it uses."""
    uses = [use.strip() for use in str(record.attributes.get("uses", "")).split(",")]
    return ", ".join(use for use in uses if use in MARKED)


def number(record: Record, name: str) -> Metric:
    """Returns an attribute of a log as a metric, undefined where it was not measured or is not finite."""
    value = record.attributes.get(name)
    if (
        not isinstance(value, int | float)
        or not np.isfinite(value)
        or (name == "peak_bytes" and value < 0)
    ):
        return Metric(
            None,
            f"{name} is {value}" if isinstance(value, float) else f"{name} was not measured",
            defined=0,
        )
    return Metric(float(value))


def aggregate(rows: Iterable[Row], drop: Collection[str] = ()) -> list[Row]:
    """Means over the seeds: one row for each group of rows that differ in nothing else, in the order of first appearance.

    Args:
        rows: of one scene each.
        drop: settings to average over too: ("attack", "probe") for the costs of estimators.
    """
    groups = _grouped(rows, drop)
    return [
        _merged(group, [[s for row in group for s in row.samples]], "scenes", drop)
        for group in groups
    ]


def mean_over(rows: Iterable[Row], attacks: Collection[str] | None = None) -> list[Row]:
    """Means of aggregated rows over the attacks of these names (None: all), every attack setting alike, and the worst AUROC.

    In the intervals the attacks stand as they are; the seeds are resampled within each.
    """
    chosen = [row for row in rows if attacks is None or row.settings["attack"]["name"] in attacks]
    means = []
    for group in _grouped(chosen, ("attack",)):
        mean = _merged(group, [row.samples for row in group], "attacks", ("attack",))
        name = {"attack": {"name": f"mean of {len(group)} attacks"}}
        worst = {
            f"{key}_worst": mean_metric([row.metrics[key] for row in group], "attacks", min)
            for key in RESAMPLED
            if key in mean.metrics
        }
        means.append(replace(mean, settings=name | mean.settings, metrics=mean.metrics | worst))
    return means


def _grouped(rows: Iterable[Row], drop: Collection[str]) -> list[list[Row]]:
    groups: dict[Hashable, list[Row]] = {}
    for row in rows:
        kept = {key: value for key, value in row.settings.items() if key not in drop}
        groups.setdefault(json.dumps(kept, sort_keys=True), []).append(row)
    return list(groups.values())


def _merged(
    group: Sequence[Row], samples: Sequence[Sequence[Sample]], each: str, drop: Collection[str]
) -> Row:
    parts = {key: [row.metrics[key] for row in group] for key in group[0].metrics}
    metrics = {
        key: mean_metric(values, each, max if key == "peak_bytes" else np.mean)
        for key, values in parts.items()
    }
    for key, interval in group[0].intervals(samples).items():
        metrics[key] = replace(metrics[key], interval=interval)
    return Row(
        {key: value for key, value in group[0].settings.items() if key not in drop},
        tuple(sorted({seed for row in group for seed in row.seeds})),
        with_wilson(metrics, group),
        {key: sum(row.counts[key] for row in group) for key in group[0].counts},
        ", ".join(dict.fromkeys(use for row in group for use in row.uses.split(", ") if use)),
        sum(row.scenes for row in group),
        tuple(sample for row in group for sample in row.samples),
        group[0].intervals,
    )


def with_wilson(metrics: dict[str, Metric], group: Sequence[Row]) -> dict[str, Metric]:
    """Adds Wilson intervals to the rates of `COUNTED`."""
    found = {}
    for key, count in COUNTED.items():
        parts = [(row.metrics[key].value, row.counts[count]) for row in group if key in row.metrics]
        rates = [(value, n) for value, n in parts if value is not None]
        if rates:
            found[key] = replace(
                metrics[key],
                interval=wilson([value for value, _ in rates], sum(n for _, n in rates)),
            )
    return metrics | found
