"""Means over all but some keys, and the order of rows: what `--by` and `--sort` ask for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.evaluation.means import aggregate, mean_row
from experiments.evaluation.names import RowNames
from experiments.evaluation.rows import Row
from experiments.evaluation.views.where import NAMED
from poisonbench.errors import ConfigError
from poisonbench.registry import nearest

UNGROUPED = ("victims", "costs")  # tables in which rows of one attack stand in no group


def mean_by(rows: Iterable[Row], keys: Sequence[str]) -> list[Row]:
    """Returns a row for each combination of the values of some keys: means over all else.

    Seeds are averaged first, then what is left, each alike. Of the settings those stay in which all
    rows of a mean agree.

    Args:
        rows: of one scene each.
        keys: "seed", a part ("attack" stands for its name), or "part.field". Rows that lack one
            have no value of it.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        values = [_value(row, key) for key in keys]
        groups.setdefault(json.dumps(values), []).append(row)
    means = [_mean(group) for group in groups.values()]
    if "seed" in keys:
        return [_with_seed(row) for row in means]
    return means


def _mean(group: Sequence[Row]) -> Row:
    """The mean of some rows of one scene each."""
    over_seeds = aggregate(group)
    if len(over_seeds) == 1:
        return over_seeds[0]
    agreed = _agreed([row.settings for row in group])
    scenes: dict[str, list[Row]] = {}
    for row in group:
        setting = json.dumps(row.settings, sort_keys=True)
        scenes.setdefault(setting, []).append(row)
    apart = list(scenes.values())
    return mean_row(over_seeds, apart, each="settings", settings=agreed)


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


def sort_tables(
    tables: Mapping[str, Sequence[Row]], metric: str, ascending: bool = False
) -> dict[str, Sequence[Row]]:
    """Returns the tables with their rows sorted by a metric, those without a value last.

    Where a table shows the attack above its rows, the attacks keep their order. A table without the
    metric stays as it is.

    Args:
        tables: rows by the names of tables.
        metric: such as "auroc".
        ascending: the smallest value first, instead of the largest.

    Raises:
        ConfigError: no table has the metric.
    """
    known: set[str] = set()
    for rows in tables.values():
        for row in rows:
            known.update(row.metrics)
    if metric not in known:
        what = f"{metric!r} is no metric of these results{nearest(metric, known)}"
        there = ", ".join(sorted(known))
        raise ConfigError([what], f"metrics: {there or 'none'}")
    found: dict[str, Sequence[Row]] = {}
    for table, rows in tables.items():
        by_attack = table not in UNGROUPED
        found[table] = _sorted(rows, metric, ascending, by_attack)
    return found


def _sorted(
    rows: Sequence[Row], metric: str, ascending: bool, by_attack: bool
) -> list[Row]:
    """The rows in their order."""
    names = RowNames.of(rows)
    places: dict[str, int] = {}
    if by_attack:
        for row in rows:
            places.setdefault(names.attack(row), len(places))

    def key(row: Row) -> tuple[int, bool, float]:
        value = None
        if metric in row.metrics:
            value = row.metrics[metric].value
        attack = names.attack(row)
        place = places.get(attack, 0)
        if value is None:
            return place, True, 0.0
        if not ascending:
            value = -value
        return place, False, value

    return sorted(rows, key=key)
