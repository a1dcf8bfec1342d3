"""Means of rows, over seeds and over attacks, with their intervals."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from experiments.evaluation.metrics import Metric, mean_metric
from experiments.evaluation.poisoning import Poisoning
from experiments.evaluation.rows import Row, rate_intervals
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
        settings = _without(group[0].settings, drop)
        row = mean_row(group, [group], each="scenes", settings=settings)
        merged.append(row)
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
    rest = _without(group[0].settings, ("attack",))
    apart = [[row] for row in group]
    mean = mean_row(group, apart, each="attacks", settings=rest)
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
    groups: Sequence[Sequence[Row]],
    each: str,
    settings: dict[str, Any],
) -> Row:
    """Returns the mean of some rows.

    Args:
        group: the rows.
        groups: the rows of their scenes, or at least rows with the samples of these: of each group
            the seeds are drawn, the groups stand.
        each: what each row stands for, in the plural.
        settings: of the mean.
    """
    first = group[0]
    metrics = {key: _mean_of(key, group, each) for key in first.metrics}
    for key, interval in _sample_intervals(groups).items():
        metrics[key] = replace(metrics[key], interval=interval)
    metrics |= rate_intervals(metrics, groups)
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


def _sample_intervals(groups: Sequence[Sequence[Row]]) -> Intervals:
    """The intervals that the samples' own kind gives; none without samples."""
    sampled = []
    for rows in groups:
        samples: list[Sample] = []
        for row in rows:
            samples += row.samples
        if samples:
            sampled.append(samples)
    if not sampled:
        return {}
    return sampled[0][0].intervals(sampled)
