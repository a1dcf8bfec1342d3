"""Means over all but some keys: what `--by` asks for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.evaluation.intervals import Interval
from experiments.evaluation.load import TABLES
from experiments.evaluation.means import aggregate, mean_row
from experiments.evaluation.rows import Row
from experiments.evaluation.views.where import NAMED
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest

OF_A_SCENE = (*TABLES, "attack")  # parts of the settings of a victim


def mean_by(rows: Iterable[Row], keys: Sequence[str]) -> list[Row]:
    """Returns a row for each combination of the values of some keys: means over all else.

    Seeds are averaged first, then what is left, each alike. Of the settings those stay in which all
    rows of a mean agree, and the values of the keys. Rows of one scene, as of two detectors, share
    its points and its training: their errors count as one, and its points once.

    Args:
        rows: of one scene each.
        keys: "seed", a part ("attack" stands for its name), or "part.field". Rows that lack one
            have no value of it.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        values = [_value(row, key) for key in keys]
        groups.setdefault(json.dumps(values), []).append(row)
    means = [_mean(group, keys) for group in groups.values()]
    if "seed" in keys:
        return [_with_seed(row) for row in means]
    return means


def _mean(group: Sequence[Row], keys: Sequence[str]) -> Row:
    """The mean of some rows of one scene each."""
    over_seeds = aggregate(group)
    if len(over_seeds) == 1:
        return over_seeds[0]
    settings = _agreed([row.settings for row in group])
    for key in keys:
        _keep(settings, key, group[0])
    mean = _mean_of_settings(group, settings)
    apart = _layers(group)
    if len(apart) == 1:
        return mean
    layers = [_mean_of_settings(rows, settings) for rows in apart]
    metrics = {}
    for name, metric in mean.metrics.items():
        metrics[name] = replace(metric, interval=_joint(layers, name))
    seen = {(_scene(row), row.seeds): row for row in reversed(group)}
    counts = dict.fromkeys(mean.counts, 0)
    for row in seen.values():
        for name in counts:
            counts[name] += row.counts[name]
    return replace(mean, metrics=metrics, counts=counts, scenes=len(seen))


def _mean_of_settings(group: Sequence[Row], settings: dict[str, Any]) -> Row:
    """The mean of rows over the seeds and then over their settings, as if all were independent."""
    apart: dict[str, list[Row]] = {}
    for row in group:
        setting = json.dumps(row.settings, sort_keys=True)
        apart.setdefault(setting, []).append(row)
    rows = list(apart.values())
    return mean_row(aggregate(group), rows, each="settings", settings=settings)


def _layers(group: Sequence[Row]) -> list[list[Row]]:
    """The rows by what was applied to a scene: one of a scene in each."""
    layers: dict[str, list[Row]] = {}
    for row in group:
        applied = {k: v for k, v in row.settings.items() if k not in OF_A_SCENE}
        layers.setdefault(json.dumps(applied, sort_keys=True), []).append(row)
    return list(layers.values())


def _scene(row: Row) -> str:
    """What tells the scene of a row but for its seed."""
    told = {key: row.settings.get(key) for key in OF_A_SCENE}
    return json.dumps(told, sort_keys=True)


def _joint(layers: Sequence[Row], name: str) -> Interval | None:
    """The interval of the mean of layers whose errors go together: the means of its ends.

    A layer counts by the settings of scenes in which it has a value.
    """
    ends = []
    weights = []
    for row in layers:
        interval = row.metrics[name].interval
        if interval is not None:
            ends.append(interval)
            weights.append(row.scenes)
    if not ends:
        return None
    low, high = np.average(ends, axis=0, weights=weights)
    return float(low), float(high)


def _keep(settings: dict[str, Any], key: str, row: Row) -> None:
    """Puts the value of a key into settings that lack it, as names of their part differ."""
    part, _, field = NAMED.get(key, key).partition(".")
    value = _value(row, key)
    if key == "seed" or not field or value is None:
        return
    nobody = {"name": "all" if part == "attack" else "several"}
    settings[part] = {**(settings.get(part) or nobody), field: value}


def _with_seed(row: Row) -> Row:
    """The row with its seed in the name of its attack, by which tables tell rows apart."""
    attack = dict(row.settings.get("attack") or {"name": "all"})
    attack["name"] = f"{attack['name']}, seed {row.seeds[0]}"
    return replace(row, settings={**row.settings, "attack": attack})


def _value(row: Row, key: str) -> Any:
    """The value of a key in the settings of a row, None without one."""
    if key == "seed":
        return list(row.seeds)
    part, _, field = NAMED.get(key, key).partition(".")
    config = row.settings.get(part) or {}
    return config.get(field or "name")


def _agreed(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parts of which all have the same name, with the fields in which all agree."""
    found: dict[str, Any] = {}
    for part, first in settings[0].items():
        configs = [one.get(part) for one in settings]
        if first is None:
            if all(config is None for config in configs):
                found[part] = None
            continue
        if None in configs:
            continue
        shared = _shared(configs)
        if ("name" in first) == ("name" in shared):
            found[part] = shared
    return found


def _shared(configs: Sequence[Any]) -> dict[str, Any]:
    """The fields that all configurations have with one value."""
    shared = dict(configs[0])
    for config in configs:
        for field, value in configs[0].items():
            if config.get(field) != value:
                shared.pop(field, None)
    return shared


def check_keys(rows: Iterable[Row], keys: Sequence[str]) -> None:
    """Raises ConfigError unless each key is one of the settings of some row."""
    known = {"seed": None}
    for row in rows:
        for part, config in row.settings.items():
            known[part] = None
            known |= dict.fromkeys(f"{part}.{field}" for field in config or ())
    for key in keys:
        if NAMED.get(key, key) not in known:
            what = f"{key!r} names no key of these results{nearest(key, known)}"
            raise ConfigError([what], f"keys: {', '.join(sorted(known))}")
