"""Metrics from the logs alone: no training, no data sets, no models. Cost: reading every log once; then milliseconds a row.

A row is one detector in one scene; `aggregate` and `mean_over` turn rows into rows, with intervals. Calibration points enter no
metric, failed attacks are counted, and a metric that cannot be computed is undefined, with its reason.
"""

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from poisonbench import log
from poisonbench.errors import ConfigError, LogError

Array = NDArray[np.float64]
LEVELS = (0.001, 0.01, 0.05)  # false-positive rates at which the true-positive rate is read
STAGES = {"scene": "scene", "trace": "trace", "influence": "influence", "detect": "detect", "failed": "failure"}
NEEDED = {
    "scene": (
        *("probe/group", "probe/predicted", "probe/wanted"),
        *("targets/predicted", "targets/wanted", "clean/correct", "clean/size"),
    ),
    "detect": ("score", "flag"),
    "failure": ("reason",),
}
MARKED = ("oracle", "reference", "probe")  # uses that a table must show: ground truth, clean data, the other probe points
RESAMPLED = {"auroc": False, "auroc_matched": True}  # metrics with a bootstrap interval: against the matched controls alone?
COUNTED = {"asr": "targets", "clean_accuracy": "clean"}  # rates of independent points, and the count of those


@dataclass(frozen=True, eq=False)
class Results:
    """All logs of a run's folder, by kind and in the order of their paths, without the data that no metric needs."""

    folder: Path
    records: dict[str, tuple[log.Record, ...]]
    damaged: tuple[LogError, ...]

    def of(self, kind: str) -> tuple[log.Record, ...]:
        """The logs of a kind: "scene", "influence", "detect", "failure", ..."""
        return self.records.get(kind, ())


def settings(record: log.Record) -> tuple[dict[str, Any], int]:
    """Returns what names the rows of a log (dataset, recipe, attack, ..., estimator, detector), and the seed."""
    scene = record.config.get("scene", record.config)
    own = {name: record.config[name] for name in ("estimator", "detector") if name in record.config}
    return {**{name: value for name, value in scene.items() if name != "seed"}, **own}, int(scene["seed"])


def _read(path: Path, verify: bool) -> log.Record:
    kind = STAGES.get(path.stem.partition("-")[0])
    record = log.read(path, kind, keys=None if verify else NEEDED.get(kind or "", ()))
    needed = NEEDED.get(record.kind, ())
    if lacking := [key for key in needed if key not in record.data]:
        raise LogError(path, f"has no data set {lacking[0]!r}")
    if record.kind in ("scene", "influence", "detect"):
        try:
            named = [
                value["name"]
                for key, value in settings(record)[0].items()
                if key in ("attack", "estimator", "detector") and value
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LogError(path, f"its configuration is not one of kind {record.kind!r}: {error!r}") from error
        if len(named) < (record.kind != "scene") + 1 or not all(isinstance(name, str) for name in named):
            raise LogError(path, "its configuration names no attack, estimator or detector")
    _check_data(record)
    return replace(record, data={key: record.data[key] for key in needed})


def _check_data(record: log.Record) -> None:
    for keys in ("probe/group probe/predicted probe/wanted", "targets/predicted targets/wanted", "score flag"):
        shapes = {record.data[key].shape for key in keys.split() if key in record.data}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise LogError(record.path, f"{', '.join(keys.split())} are not vectors of one length")
    for key in NEEDED.get(record.kind, ()):
        if key == "reason":
            record.text(key)
        elif record.data[key].dtype.kind == "S" or (key.startswith("clean/") and record.data[key].ndim):
            raise LogError(record.path, f"{key!r} is not of the type that it should be")


def load_results(folder: Path | str, verify: bool = True) -> Results:
    """Reads every stage file below FOLDER/scenes; damaged ones are collected, not raised, and failures are kept.

    Args:
        folder: a run's folder.
        verify: read each file whole, so that every checksum is tested; otherwise only what the metrics need.

    Raises:
        ConfigError: there is no such folder, or it holds no run.
    """
    root = Path(folder) / "scenes"
    if not root.is_dir():
        raise ConfigError([f"{folder} holds no results (no folder {root.name!r})"], "first: poisonbench run GRID.toml -o DIR")
    records: dict[str, list[log.Record]] = {}
    damaged: list[LogError] = []
    scenes: dict[Path, log.Record] = {}
    # scene.h5 first: what lies beside it is judged by it
    for path in sorted(root.glob("*/*.h5"), key=lambda p: (p.parent, p.name != "scene.h5", p)):
        try:
            record = _read(path, verify)
            if record.kind == "scene":
                scenes[path.parent] = record
            elif record.kind in ("influence", "detect"):
                _fits(record, scenes.get(path.parent))
            records.setdefault(record.kind, []).append(record)
        except LogError as error:
            damaged.append(error)
    return Results(Path(folder), {kind: tuple(found) for kind, found in records.items()}, tuple(damaged))


def _fits(record: log.Record, scene: log.Record | None) -> None:
    if scene is None:
        raise LogError(record.path, "cannot be judged: scene.h5 beside it is missing or damaged")
    if record.config.get("scene") != scene.config:
        raise LogError(record.path, "belongs to another scene than scene.h5 beside it")
    if record.kind == "detect" and record.data["score"].shape != scene.data["probe/group"].shape:
        raise LogError(record.path, f"has {len(record.data['score'])} scores for {len(scene.data['probe/group'])} probe points")


@dataclass(frozen=True)
class Metric:
    """A number, or None and the `reason` why it is undefined; a mean has one too if part of it is.

    `interval` has 95 % confidence; `defined` counts what entered the mean.
    """

    value: float | None
    reason: str = ""
    interval: tuple[float, float] | None = None
    defined: int = 1


@dataclass(frozen=True, eq=False)
class Sample:
    """Scores of one detector in one scene: (a,) of successfully attacked points, (c,) of controls, (c,) bool which match."""

    attacked: Array
    controls: Array
    matched: NDArray[np.bool_]
    failed: int = 0

    def against(self, matched: bool) -> Array:
        """Scores of the matched controls, or of all."""
        return self.controls[self.matched] if matched else self.controls

    def undefined(self, matched: bool = False) -> str:
        """Why no ranking metric is defined, or an empty text."""
        controls = self.against(matched)
        scores = np.concatenate([self.attacked, controls])
        if not len(self.attacked):
            return f"none of {self.failed} attacks succeeded" if self.failed else "no attacked points"
        if not len(controls):
            return "no matched controls" if matched else "no controls"
        if bad := int((~np.isfinite(scores)).sum()):
            return f"{bad} non-finite scores"
        return "constant scores" if (scores == scores[0]).all() else ""

    def ranked(self, matched: bool = False) -> tuple[Array, Array]:
        """Truth and dense ranks of the scores, both (a + c,); no metric changes by it, and no difference overflows."""
        controls = self.against(matched)
        ranks = np.unique(np.concatenate([self.attacked, controls]), return_inverse=True)[1].astype(float)
        return np.repeat([1.0, 0.0], [len(self.attacked), len(controls)]), ranks


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


def _mean(values: Collection[Metric], each: str = "scenes", of: Callable[[list[float]], Any] = np.mean) -> Metric:
    defined = [m.value for m in values if m.value is not None]
    reasons = "; ".join(dict.fromkeys(m.reason for m in values if m.reason))
    if defined and reasons:
        reasons = f"over {len(defined)} of {len(values)} {each}: {reasons}" if len(defined) < len(values) else reasons
    return Metric(float(of(defined)) if defined else None, reasons, defined=len(defined))


def ranking(sample: Sample, matched: bool = False) -> dict[str, Metric]:
    """AUROC, AUPRC, and the largest true-positive rate whose false-positive rate does not exceed each of `LEVELS`."""
    names = [name + "_matched" * matched for name in ("auroc", "auprc", *(f"tpr_at_{level}" for level in LEVELS))]
    if reason := sample.undefined(matched):
        return dict.fromkeys(names, Metric(None, reason, defined=0))
    truth, scores = sample.ranked(matched)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    values = [roc_auc_score(truth, scores), average_precision_score(truth, scores)]
    values += [tpr[fpr <= level].max() for level in LEVELS]
    return {name: Metric(float(value)) for name, value in zip(names, values, strict=True)}


def ties(sample: Sample) -> Metric:
    """Share of the successful attacked points and controls whose score another of them has too."""
    if sample.undefined() not in ("", "constant scores"):
        return Metric(None, sample.undefined(), defined=0)
    _, counts = np.unique(sample.ranked()[1], return_counts=True)
    return Metric(float(counts[counts > 1].sum() / counts.sum()))


def _number(record: log.Record, name: str) -> Metric:
    value = record.attributes.get(name)
    if not isinstance(value, int | float) or not np.isfinite(value) or (name == "peak_bytes" and value < 0):
        return Metric(None, f"{name} is {value}" if isinstance(value, float) else f"{name} was not measured", defined=0)
    return Metric(float(value))


def _rate(hits: NDArray[Any], none: str, bad: str = "") -> Metric:
    """Share of `hits`, undefined for the reason `bad`, or for the reason `none` if there are none to count."""
    return Metric(None, bad or none, defined=0) if bad or not len(hits) else Metric(float(hits.mean()))


def detection(record: log.Record, scene: log.Record) -> Row:
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
        "flag_tpr": _rate(flag[won], sample.undefined(), bad),
        "flag_fpr": _rate(flag[controls], "no controls", bad),
        "flag_fpr_matched": _rate(flag[matched], "no matched controls", bad),
        "ties": ties(sample),
        **{name: _number(record, name) for name in ("threshold", "alarm", "seconds")},
    }
    groups = {"successful": won, "failed": lost, "controls": controls, "matched": matched, "nonfinite": strange}
    counts = {key: int(mask.sum()) for key, mask in groups.items()}
    uses = [use.strip() for use in str(record.attributes.get("uses", "")).split(",")]
    marked = ", ".join(use for use in uses if use in MARKED)
    name, seed = settings(record)
    return Row(name, (seed,), {**ranking(sample), **ranking(sample, True), **own}, counts, marked, samples=(sample,))


def victim(scene: log.Record) -> Row:
    """Returns clean accuracy and attack success rate over all attacked test points, with Wilson intervals."""
    hits = scene.data["targets/predicted"] == scene.data["targets/wanted"]
    correct, size = int(scene.data["clean/correct"]), int(scene.data["clean/size"])
    name, seed = settings(scene)
    clean = Metric(correct / size) if size else Metric(None, "empty test set", defined=0)
    metrics = {"clean_accuracy": clean, "asr": _rate(hits, "no attacked points")}
    row = Row(name, (seed,), metrics, {"clean": size, "targets": len(hits), "successful": int(hits.sum())})
    return replace(row, metrics=_with_intervals(metrics, [row], []))


def cost(record: log.Record) -> Row:
    """Returns what one estimator took in one scene: seconds to fit and to score, peak memory in bytes."""
    name, seed = settings(record)
    return Row(name, (seed,), {key: _number(record, key) for key in ("fit_seconds", "score_seconds", "peak_bytes")})


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
            f"{key}_worst": _mean([row.metrics[key] for row in group], "attacks", min) for key in RESAMPLED if key in mean.metrics
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
    metrics = {key: _mean(values, each, max if key == "peak_bytes" else np.mean) for key, values in parts.items()}
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


def wilson(rates: Sequence[float], n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the mean of the seeds' `rates` over n points in all.

    Points of one victim succeed together, so n is cut to p(1 - p) over the squared standard error of the mean between the seeds
    where that is less (the design effect of clustered samples): two seeds with 0 % and 100 % count as one point.
    """
    p, z, size = float(np.mean(rates)), 1.959963984540054, float(n)
    if len(rates) > 1 and (error := float(np.var(rates, ddof=1)) / len(rates)) > 0:
        size = min(size, max(1.0, p * (1 - p) / error))
    centre, half = p + z * z / (2 * size), z * np.sqrt(p * (1 - p) / size + z * z / (4 * size * size))
    scale = 1 + z * z / size
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def _resampled(attacked: Array, controls: Array, size: int, rng: np.random.Generator) -> Array:
    """AUROC of `size` resamples of one scene, (size,): counts x wins x counts, no sorting."""
    wins = (attacked[:, None] > controls) + 0.5 * (attacked[:, None] == controls)
    drawn = []
    for n in wins.shape:  # multinomial counts: how often each point was drawn
        cell = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        drawn.append(np.bincount(cell.ravel(), minlength=size * n).reshape(size, n).astype(np.float64))
    result: Array = ((drawn[0] @ wins) * drawn[1]).sum(1) / wins.size
    return result


def bootstrap(groups: Sequence[Sequence[tuple[Array, Array]]], draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Hierarchical 95 % percentile interval of the mean over groups of the mean AUROC over scenes.

    Within each group the scenes are drawn with replacement (a single one stands); within every scene drawn, its attacked points
    and its controls, separately and anew. With two or three seeds it is rough. Cost: draws x scenes x a x c multiplications.

    Args:
        groups: for each group its scenes: scores (a,) of attacked points and (c,) of controls.
        draws: resamples.
        seed: of the generator; equal seeds give equal intervals.
    """
    rng, total = np.random.default_rng(seed), np.zeros(draws)
    for scenes in groups:
        pick = rng.integers(len(scenes), size=(draws, len(scenes)))
        value = np.empty(pick.shape)
        for s, (attacked, controls) in enumerate(scenes):
            value[pick == s] = _resampled(attacked, controls, int((pick == s).sum()), rng)
        total += value.mean(1)
    low, high = np.quantile(total / len(groups), (0.025, 0.975))
    return float(low), float(high)
