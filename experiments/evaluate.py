"""Rows from the logs alone: no training, no data sets, no models. Cost: milliseconds a row.

A row is one detector in one scene; `aggregate` and `mean_over` turn rows into rows, with intervals. Calibration points enter no
metric, failed attacks are counted, and a metric that cannot be computed is undefined, with its reason.
"""

import json
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experiments.metrics import Metric, Sample, bootstrap, mean_metric, ranking, rate, ties, wilson
from experiments.results import Results, settings
from poisonbench.log import Record

MARKED = ("oracle", "reference", "probe")  # uses that a table must show: ground truth, clean data, the other probe points
RESAMPLED = {"auroc": False, "auroc_matched": True}  # metrics with a bootstrap interval: against the matched controls alone?
COUNTED = {"asr": "targets", "clean_accuracy": "clean"}  # rates of independent points, and the count of those


@dataclass(frozen=True, eq=False)
class Row:
    """Metrics of one scene, or of several: `settings` names it (without the seed), `uses` what it takes beyond the victim."""

    settings: dict[str, Any]
    seeds: tuple[int, ...]
    metrics: dict[str, Metric]
    counts: dict[str, int] = field(default_factory=dict)
    uses: str = ""
    scenes: int = 1
    samples: tuple[Sample, ...] = field(default=(), repr=False)


def detection(record: Record, scene: Record) -> Row:
    """Returns the row of one detector in one scene. The calibration group enters nothing; failed attacks are counted."""
    group, flag = scene.data["probe/group"], record.data["flag"].astype(bool)
    score = record.data["score"].astype(np.float64)
    won = (group == 0) & (scene.data["probe/predicted"] == scene.data["probe/wanted"])
    lost, matched = (group == 0) & ~won, group == 1
    controls = matched | (group == 2)
    strange = (won | lost | controls) & ~np.isfinite(score)
    sample = Sample(score[won], score[controls], matched[controls], int(lost.sum()))
    bad = f"{strange.sum()} non-finite scores" if strange.any() else ""
    own = {
        "flag_tpr": rate(flag[won], sample.undefined(), bad),
        "flag_fpr": rate(flag[controls], "no controls", bad),
        "flag_fpr_matched": rate(flag[matched], "no matched controls", bad),
        "ties": ties(sample),
        **{name: _number(record, name) for name in ("threshold", "alarm", "seconds")},
    }
    groups = {"successful": won, "failed": lost, "controls": controls, "matched": matched, "nonfinite": strange}
    counts = {key: int(mask.sum()) for key, mask in groups.items()}
    uses = [use.strip() for use in str(record.attributes.get("uses", "")).split(",")]
    marked = ", ".join(use for use in uses if use in MARKED)
    name, seed = settings(record)
    return Row(name, (seed,), {**ranking(sample), **ranking(sample, True), **own}, counts, marked, samples=(sample,))


def victim(scene: Record) -> Row:
    """Returns clean accuracy and attack success rate over all attacked test points, with Wilson intervals."""
    hits = scene.data["targets/predicted"] == scene.data["targets/wanted"]
    correct, size = int(scene.data["clean/correct"]), int(scene.data["clean/size"])
    name, seed = settings(scene)
    clean = Metric(correct / size) if size else Metric(None, "empty test set", defined=0)
    metrics = {"clean_accuracy": clean, "asr": rate(hits, "no attacked points")}
    row = Row(name, (seed,), metrics, {"clean": size, "targets": len(hits), "successful": int(hits.sum())})
    return replace(row, metrics=_with_intervals(metrics, [row], []))


def cost(record: Record) -> Row:
    """Returns what one estimator took in one scene: seconds to fit and to score, peak memory in bytes."""
    name, seed = settings(record)
    return Row(name, (seed,), {key: _number(record, key) for key in ("fit_seconds", "score_seconds", "peak_bytes")})


def _number(record: Record, name: str) -> Metric:
    value = record.attributes.get(name)
    if not isinstance(value, int | float) or not np.isfinite(value) or (name == "peak_bytes" and value < 0):
        return Metric(None, f"{name} is {value}" if isinstance(value, float) else f"{name} was not measured", defined=0)
    return Metric(float(value))


def scene_rows(results: Results) -> tuple[list[Row], list[Row], list[Row]]:
    """Returns the rows of all scenes: of the victims, the detectors, and the costs of the estimators."""
    scenes = {record.path.parent: record for record in results.of("scene")}
    detections = [detection(record, scenes[record.path.parent]) for record in results.of("detect")]
    return [victim(scene) for scene in scenes.values()], detections, [cost(record) for record in results.of("influence")]


def aggregate(rows: Iterable[Row], drop: Collection[str] = ()) -> list[Row]:
    """Means over the seeds: one row for each group of rows that differ in nothing else, in the order of first appearance.

    Args:
        rows: of one scene each.
        drop: settings to average over too: ("attack", "probe") for the costs of estimators.
    """
    groups = _grouped(rows, drop)
    return [_merged(group, [[s for row in group for s in row.samples]], "scenes", drop) for group in groups]


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


def _merged(group: Sequence[Row], samples: Sequence[Sequence[Sample]], each: str, drop: Collection[str]) -> Row:
    parts = {key: [row.metrics[key] for row in group] for key in group[0].metrics}
    metrics = {key: mean_metric(values, each, max if key == "peak_bytes" else np.mean) for key, values in parts.items()}
    return Row(
        {key: value for key, value in group[0].settings.items() if key not in drop},
        tuple(sorted({seed for row in group for seed in row.seeds})),
        _with_intervals(metrics, group, samples),
        {key: sum(row.counts[key] for row in group) for key in group[0].counts},
        ", ".join(dict.fromkeys(use for row in group for use in row.uses.split(", ") if use)),
        sum(row.scenes for row in group),
        tuple(sample for row in group for sample in row.samples),
    )


def _with_intervals(metrics: dict[str, Metric], group: Sequence[Row], samples: Sequence[Sequence[Sample]]) -> dict[str, Metric]:
    intervals = {}
    for key, matched in RESAMPLED.items():
        pairs = [[(s.attacked, s.against(matched)) for s in scenes if not s.undefined(matched)] for scenes in samples]
        if defined := [scenes for scenes in pairs if scenes]:
            intervals[key] = bootstrap(defined)
    for key, count in COUNTED.items():
        parts = [(row.metrics[key].value, row.counts[count]) for row in group if key in row.metrics]
        rates = [(value, n) for value, n in parts if value is not None]
        if rates:
            intervals[key] = wilson([value for value, _ in rates], sum(n for _, n in rates))
    return metrics | {key: replace(metrics[key], interval=interval) for key, interval in intervals.items()}
