"""Means of rows, over seeds and over attacks, with their intervals."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from experiments.evaluation.metrics import Metric, mean_metric
from experiments.evaluation.poisoning import Poisoning
from experiments.evaluation.rows import Row, wilson_intervals
from experiments.evaluation.samples import Intervals, Sample

LARGEST = ("peak_bytes",)  # of which the largest is told, not the mean
WORST = ("auroc", "auroc_matched")  # of which a mean over attacks also tells the worst


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
        settings = _without(group[0].settings, drop)
        merged.append(mean_row(group, [samples], each="scenes", settings=settings))
    return merged


def mean_over(rows: Iterable[Row], attacks: Collection[str] | None = None) -> list[Row]:
    """Returns means of aggregated rows over the attacks, every attack setting alike.

    They also tell the worst of the metrics `WORST`. In the intervals the attacks stand as they are;
    the seeds are resampled within each.

    Args:
        rows: from `aggregate`.
        attacks: names of the attacks, None for all.
    """
    chosen = list(rows)
    if attacks is not None:
        chosen = [row for row in chosen if row.settings["attack"]["name"] in attacks]
    groups = _grouped(chosen, ("attack",))
    return [_mean_of_attacks(group) for group in groups]


def _mean_of_attacks(group: Sequence[Row]) -> Row:
    samples = [row.samples for row in group]
    rest = _without(group[0].settings, ("attack",))
    mean = mean_row(group, samples, each="attacks", settings=rest)
    metrics = dict(mean.metrics)
    for key in WORST:
        if key in metrics:
            parts = [row.metrics[key] for row in group]
            metrics[f"{key}_worst"] = mean_metric(parts, "attacks", min)
    attack = {"name": f"mean of {len(group)} attacks"}
    settings = {"attack": attack, **mean.settings}
    return replace(mean, settings=settings, metrics=metrics)


def _without(settings: dict[str, Any], drop: Collection[str]) -> dict[str, Any]:
    kept = dict(settings)
    for key in drop:
        kept.pop(key, None)
    return kept


def _grouped(rows: Iterable[Row], drop: Collection[str]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        kept = _without(row.settings, drop)
        key = json.dumps(kept, sort_keys=True)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def mean_row(
    group: Sequence[Row],
    samples: Sequence[Sequence[Sample]],
    each: str,
    settings: dict[str, Any],
) -> Row:
    """Returns the mean of some rows.

    Args:
        group: the rows.
        samples: their samples, in groups for the intervals.
        each: what each row stands for, in the plural.
        settings: of the mean.
    """
    first = group[0]
    metrics = {key: _mean_of(key, group, each) for key in first.metrics}
    for key, interval in _bootstrap_intervals(samples).items():
        metrics[key] = replace(metrics[key], interval=interval)
    metrics |= wilson_intervals(metrics, group)
    counts = dict.fromkeys(first.counts, 0)
    seeds: set[int] = set()
    uses: dict[str, None] = {}  # without repetitions, in order
    all_samples: list[Sample] = []
    poisoned: list[Poisoning] = []
    for row in group:
        seeds.update(row.seeds)
        uses |= dict.fromkeys(row.uses.split(", "))
        all_samples += row.samples
        poisoned += row.poisoned
        for key in counts:
            counts[key] += row.counts[key]
    return Row(
        settings=settings,
        seeds=tuple(sorted(seeds)),
        metrics=metrics,
        counts=counts,
        uses=", ".join(use for use in uses if use),
        scenes=sum(row.scenes for row in group),
        samples=tuple(all_samples),
        poisoned=tuple(poisoned),
    )


def _mean_of(key: str, group: Sequence[Row], each: str) -> Metric:
    parts = [row.metrics[key] for row in group]
    if key in LARGEST:
        return mean_metric(parts, each, max)
    return mean_metric(parts, each)


def _bootstrap_intervals(groups: Sequence[Sequence[Sample]]) -> Intervals:
    """The intervals that the samples' own kind gives; none without samples."""
    samples = list(chain.from_iterable(groups))
    if not samples:
        return {}
    return samples[0].intervals(groups)
