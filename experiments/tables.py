"""Rows to tables: what is shown, in which order, and under which names.

A method is called by its name and by those hyperparameters alone in which it differs from others of that name in the results.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.evaluate import Row, aggregate, mean_over, scene_rows
from experiments.metrics import Metric
from experiments.results import Results

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """What the readable formats share. The first `names` columns may wrap; if `grouped`, the first heads groups of rows."""

    title: str
    legend: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    names: int
    notes: tuple[str, ...] = ()
    grouped: bool = False


@dataclass(frozen=True, eq=False)
class Summary:
    """The results as rows over seeds, with the failures and damaged files as (path, reason)."""

    victims: list[Row]
    detections: list[Row]
    means: list[Row]
    costs: list[Row]
    scenes: dict[str, list[Row]]
    failures: list[tuple[str, str]]
    damaged: list[tuple[str, str]]

    def rows(self) -> dict[str, list[Row]]:
        """All rows by table: over seeds, over attacks, and of single scenes."""
        merged = {"victims": self.victims, "detections": self.detections, "means": self.means, "costs": self.costs}
        return merged | {f"scene-{name}": rows for name, rows in self.scenes.items()}


def short_names(configs: Iterable[Config | None]) -> Callable[[Config | None], str]:
    """Returns a function from a method's configuration to its name and those fields that vary among `configs` of that name."""
    values: dict[str, dict[str, set[str]]] = {}
    known = [config for config in configs if config]
    for config in known:
        fields = values.setdefault(str(config.get("name")), {})
        for field in {field for other in known if other.get("name") == config.get("name") for field in other}:
            fields.setdefault(field, set()).add(json.dumps(config.get(field), sort_keys=True))

    def name(config: Config | None) -> str:
        if not config:
            return "none"
        varying = [field for field, found in values.get(str(config.get("name")), {}).items() if len(found) > 1]
        shown = [f"{field}={short(config[field])}" for field in config if field in varying]
        return " ".join([str(config.get("name")), *shown])

    return name


def short(value: object) -> str:
    """Returns the value of a hyperparameter in few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return value[:8]  # a sha256
    return value if isinstance(value, str) else json.dumps(value)


def scene_config(row: Row) -> dict[str, Any]:
    """Returns the data set, recipe, transfer and probe of a row as one configuration named by the data set and the model."""
    parts = {part: row.settings.get(part) or {} for part in ("dataset", "recipe", "probe")}
    fields = {key: value for part in parts.values() for key, value in part.items() if key not in ("name", "model")}
    name = f"{parts['dataset'].get('name', '?')} {parts['recipe'].get('model', '')}".strip()
    if not (transfer := row.settings.get("transfer")):
        return {"name": name, **fields}
    return {"name": f"{name} transfer", **fields, **{f"transfer {key}": value for key, value in transfer.items()}}


def summarise(results: Results) -> Summary:
    """Returns all rows of the results, those over seeds sorted by name; the means are over the attacks with a defined AUROC."""
    victims, detections, costs = scene_rows(results)
    merged = in_order(aggregate(detections))
    able = [json.dumps(row.settings["attack"]) for row in merged if row.metrics["auroc"].value is not None]
    several = len(set(able)) > 1
    means = mean_over([row for row in merged if json.dumps(row.settings["attack"]) in able]) if several else []
    root = results.folder
    failures = [(str(r.path.relative_to(root)), r.text("reason")) for r in results.of("failure")]
    damaged = [(str(e.path.relative_to(root)), e.reason) for e in results.damaged]
    scenes = {"victims": victims, "detections": detections, "costs": costs}
    over_all = in_order(aggregate(costs, drop=("attack",)))
    return Summary(in_order(aggregate(victims)), merged, means, over_all, scenes, failures, damaged)


def in_order(rows: list[Row]) -> list[Row]:
    """Returns the rows sorted by their names, numbers in them by value."""
    names = naming(rows)
    return sorted(rows, key=lambda row: [natural(name) for name in names(row)])


def natural(text: str) -> list[tuple[float, str]]:
    """Returns a key to sort names by, with the numbers in them by value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def naming(rows: Iterable[Row]) -> Callable[[Row], tuple[str, str, str]]:
    """Returns a function from a row to the short names of its attack (with its scene, if several occur), estimator, detector."""
    rows = list(rows)
    scene = short_names(scene_config(row) for row in rows)
    one_scene = len({scene(scene_config(row)) for row in rows}) == 1
    by_part = {part: short_names(row.settings.get(part) for row in rows) for part in ("attack", "estimator", "detector")}

    def names(row: Row) -> tuple[str, str, str]:
        attack, estimator, detector = (name(row.settings.get(part)) for part, name in by_part.items())
        where = [] if one_scene else [scene(scene_config(row))]
        what = [attack] if "attack" in row.settings else []
        return ", ".join(what + where) or "all", estimator, detector + (f" [{row.uses}]" if row.uses else "")

    return names


class _Cells:
    """Formats metrics and numbers the reasons why they, or a part of them, are undefined: once in each row."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def __call__(self, *metrics: Metric, form: str = ".3f") -> list[str]:
        marked: set[str] = {""}
        cells = []
        for metric in metrics:
            ends = [f"{end:.2f}".removeprefix("0").replace("1.00", "1.0") for end in metric.interval or ()]
            value = "-" if metric.value is None else f"{metric.value:{form}}"
            number = self.reasons.setdefault(metric.reason, len(self.reasons) + 1) if metric.reason else 0
            cells.append(value + f" [{', '.join(ends)}]" * bool(ends) + f" ({number})" * (metric.reason not in marked))
            marked.add(metric.reason)
        return cells

    def notes(self) -> tuple[str, ...]:
        """The reasons under their numbers."""
        return tuple(f"({number}) {reason}" for reason, number in self.reasons.items())


def tables(summary: Summary) -> list[Table]:
    """Returns the tables of victims, detection, costs, failures and damaged files, those that have rows."""
    names = naming([*summary.victims, *summary.detections, *summary.costs])
    faults = ("file", "reason")
    made = [
        _victims(summary.victims, names),
        _detection([*summary.detections, *summary.means], names),
        _costs(summary.costs, names),
        Table("FAILED", "These stages failed; each may be run again.", faults, summary.failures, 2, grouped=True),
        Table("DAMAGED", "Not read:", faults, summary.damaged, 2, grouped=True),
    ]
    return [table for table in made if table.rows]


def _victims(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        rates = cell(row.metrics["clean_accuracy"], row.metrics["asr"])
        body.append((names(row)[0], *rates, str(row.counts["targets"]), str(len(row.seeds))))
    head = ("attack", "clean accuracy", "attack success rate", "n", "seeds")
    return Table("VICTIMS", "[95 % interval]; n: attacked test points", head, body, 1, cell.notes())


def _detection(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        keys = ("auroc", "auroc_matched", "auprc", "tpr_at_0.01", "tpr_at_0.05", "flag_tpr", "flag_fpr")
        metrics = [replace(row.metrics[key], interval=row.metrics[key].interval if key == "auroc" else None) for key in keys]
        body.append((*names(row), *cell(*metrics), str(len(row.seeds))))
    head = (
        *("attack", "estimator", "detector"),
        *("AUROC [95 %]", "matched", "AUPRC", "TPR@1%", "TPR@5%", "flags", "false", "seeds"),
    )
    legend = (
        "Successful attacks against all clean controls; matched: AUROC against those predicted as a label an attacker wants. "
        "TPR at 1 % and 5 % false positives; flags, false: TPR and FPR at the calibrated threshold. [...]: what a method takes "
        "beyond the victim."
    )
    return Table("DETECTION", legend, head, body, 3, cell.notes(), grouped=True)


def _costs(rows: list[Row], names: Callable[[Row], tuple[str, str, str]]) -> Table:
    cell, body = _Cells(), list[tuple[str, ...]]()
    for row in rows:
        peak = row.metrics["peak_bytes"]
        mebibytes = replace(peak, value=peak.value if peak.value is None else peak.value / 2**20)
        cells = cell(row.metrics["fit_seconds"], row.metrics["score_seconds"], mebibytes, form=".3g")
        body.append((names(row)[1], names(row)[0], *cells, str(row.scenes)))
    head = ("estimator", "scenes", "fit s", "score s", "peak MiB", "n")
    return Table("COSTS", "Mean seconds and largest peak of memory over n scenes.", head, body, 2, cell.notes())
