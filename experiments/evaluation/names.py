"""The names of rows in tables.

A method is called by its name, and by those hyperparameters alone in which it differs from others of
that name in the results.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.poisoning import achieved
from experiments.evaluation.rows import Row

Config = Mapping[str, Any]


@dataclass(frozen=True)
class ShortNames:
    """The short names of some methods.

    Attributes:
        varying: for each name the fields in which methods of that name differ.
    """

    varying: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, configs: Iterable[Config | None]) -> "ShortNames":
        """Compares the configurations of methods; None, for no method, is left out."""
        by_name: dict[str, list[Config]] = {}
        for config in configs:
            if config:
                by_name.setdefault(str(config.get("name")), []).append(config)
        return cls({name: _varying(same) for name, same in by_name.items()})

    def name(self, config: Config | None, always: Sequence[str] = ()) -> str:
        """Returns the name, the fields that vary, and of those of `always` the ones it has."""
        if not config:
            return "none"
        name = str(config.get("name"))
        told = self.varying.get(name, frozenset()).union(always)
        shown = [f"{field}={short(value)}" for field, value in config.items() if field in told]
        return " ".join([name, *shown])


def _varying(configs: Sequence[Config]) -> frozenset[str]:
    """The fields that not all of the configurations have, or not with the same value."""
    values: dict[str, set[str]] = {field: set() for config in configs for field in config}
    for config in configs:
        for field, found in values.items():
            found.add(json.dumps(config.get(field), sort_keys=True))
    return frozenset(field for field, found in values.items() if len(found) > 1)


def short(value: object) -> str:
    """Returns the value of a hyperparameter in few letters."""
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", value):
        return value[:8]  # a sha256
    return value


def scene_config(row: Row) -> dict[str, Any]:
    """Returns data set, recipe, transfer and probe of a row as one configuration with a name."""
    fields: dict[str, Any] = {}
    for part in ("dataset", "recipe", "probe"):
        own = row.settings.get(part) or {}
        fields |= {key: value for key, value in own.items() if key not in ("name", "model")}
    dataset = (row.settings.get("dataset") or {}).get("name", "?")
    model = (row.settings.get("recipe") or {}).get("model", "")
    name = f"{dataset} {model}".strip()
    transfer = row.settings.get("transfer")
    if transfer:
        name = f"{name} transfer"
        fields |= {f"transfer {key}": value for key, value in transfer.items()}
    return {"name": name, **fields}


@dataclass(frozen=True, eq=False)
class RowNames:
    """The names that tell some rows apart.

    Attributes:
        scenes: names of data set and model.
        several_scenes: whether there is more than one of these.
        attacks: names of the attacks.
        methods: names of the methods by part: "estimator", "detector", ...
    """

    scenes: ShortNames
    several_scenes: bool
    attacks: ShortNames
    methods: Mapping[str, ShortNames]

    @classmethod
    def of(
        cls, rows: Iterable[Row], parts: Sequence[str] = ("estimator", "detector")
    ) -> "RowNames":
        """Compares the settings of the rows; `parts` are the methods that name a row."""
        rows = list(rows)
        configs = [scene_config(row) for row in rows]
        scenes = ShortNames.of(configs)
        return cls(
            scenes=scenes,
            several_scenes=len({scenes.name(config) for config in configs}) > 1,
            attacks=ShortNames.of(row.settings.get("attack") for row in rows),
            methods={part: ShortNames.of(row.settings.get(part) for row in rows) for part in parts},
        )

    def attack(self, row: Row) -> str:
        """Returns the attack's name, with the scene if several occur; `all` for a row over all.

        Where the attack did not poison as many rows as its budget asked for, the name says so.
        """
        parts = []
        missed = any(scene.missed for scene in row.poisoned)
        attack = row.settings.get("attack")
        told = missed and "budget" in (attack or {})
        if attack is not None:
            parts.append(self.attacks.name(attack, always=["budget"] if told else []))
        if self.several_scenes:
            parts.append(self.scenes.name(scene_config(row)))
        name = ", ".join(parts) or "all"
        return f"{name} (achieved: {achieved(row.poisoned)})" if told else name

    def method(self, row: Row, part: str) -> str:
        """Returns the name of a method of the row, `none` if it has none."""
        return self.methods[part].name(row.settings.get(part))

    def all(self, row: Row) -> tuple[str, ...]:
        """Returns the names of the attack and of every method, the last with what the row uses."""
        methods = [self.method(row, part) for part in self.methods]
        if row.uses:
            methods[-1] += f" [{row.uses}]"
        return self.attack(row), *methods


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows sorted by their names, numbers in them by value."""
    names = RowNames.of(rows)
    return sorted(rows, key=lambda row: [natural(name) for name in names.all(row)])


def natural(text: str) -> list[tuple[float, str]]:
    """Returns a key to sort names by, with the numbers in them by value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    keys = []
    for index, part in enumerate(parts):
        is_number = index % 2 == 1
        keys.append((float(part), "") if is_number else (0.0, part))
    return keys
