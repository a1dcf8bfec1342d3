"""The names of rows in tables.

A method is called by its name, and by those hyperparameters alone in which it differs from others
of that name in the results.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.evaluation.poisoning import achieved
from experiments.evaluation.rows import Row
from experiments.plan.identity import short

Config = Mapping[str, Any]
SEVERAL = "several"  # data sets or methods, of a mean over them


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
        """Returns the name, the fields that vary, and of those of `always` the ones it has.

        A field that is left to the method, None, is left out.
        """
        if not config:
            return "none"
        name = str(config.get("name"))
        told = self.varying.get(name, frozenset()).union(always)
        words = [name]
        for field, value in config.items():
            if field in told and value is not None:
                words.append(f"{field}={short(value)}")
        return " ".join(words)


def _varying(configs: Sequence[Config]) -> frozenset[str]:
    """The fields that not all of the configurations have, or not with the same value."""
    fields: set[str] = set()
    for config in configs:
        fields.update(config)
    return frozenset(field for field in fields if _varies(field, configs))


def _varies(field: str, configs: Sequence[Config]) -> bool:
    values = {json.dumps(config.get(field), sort_keys=True) for config in configs}
    return len(values) > 1


def scene_config(row: Row) -> dict[str, Any]:
    """Returns data set, recipe, transfer and probe of a row as one configuration with a name."""
    return scene_settings(row.settings)


def scene_settings(settings: Config) -> dict[str, Any]:
    """Returns the same of the settings of a row or a log."""
    fields: dict[str, Any] = {}
    for part in ("dataset", "recipe", "probe"):
        fields |= _part(settings, part)
    fields.pop("name", None)
    fields.pop("model", None)
    fields.pop("classes", None)
    dataset = data_called(_part(settings, "dataset"))
    model = _part(settings, "recipe").get("model", "")
    name = f"{dataset} {model}".strip()
    transfer = _part(settings, "transfer")
    if transfer:
        name += " transfer"
    for key, value in transfer.items():
        fields[f"transfer {key}"] = value
    return {"name": name, **fields}


def data_called(dataset: Config) -> str:
    """Returns what data are called: the name, and the classes that are kept where not all are."""
    words = [dataset.get("name", SEVERAL)]
    classes = dataset.get("classes")
    if isinstance(classes, list):  # of an audit it is their number
        words.extend(classes)
    return " ".join(str(word) for word in words)


def _part(settings: Config, part: str) -> dict[str, Any]:
    """A part of what names a row; empty if it has none."""
    return settings.get(part) or {}


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
        different = {scenes.name(config) for config in configs}
        return cls(
            scenes=scenes,
            several_scenes=len(different) > 1,
            attacks=_names_of("attack", rows),
            methods={part: _names_of(part, rows) for part in parts},
        )

    def attack(self, row: Row) -> str:
        """Returns the attack's name, with the scene if several occur; `all` for a row over all.

        Where the attack did not poison as many rows as its budget asked for, the name says so.
        """
        attack = row.settings.get("attack")
        missed = any(scene.missed for scene in row.poisoned)
        told = missed and "budget" in _part(row.settings, "attack")
        words = []
        if told:
            words.append(self.attacks.name(attack, always=["budget"]))
        elif attack is not None:
            words.append(self.attacks.name(attack))
        if self.several_scenes:
            words.append(self.scenes.name(scene_config(row)))
        name = ", ".join(words) or "all"
        if told:
            name += f" (achieved: {achieved(row.poisoned)})"
        return name

    def method(self, row: Row, part: str) -> str:
        """Returns the name of a method of the row, `none` if it has none, `several` of a mean."""
        if part not in row.settings:
            return SEVERAL
        return self.methods[part].name(row.settings.get(part))

    def all(self, row: Row) -> tuple[str, ...]:
        """Returns the names of the attack and of every method, the last with what the row uses."""
        methods = [self.method(row, part) for part in self.methods]
        if row.uses:
            methods[-1] += f" [{row.uses}]"
        return self.attack(row), *methods


def _names_of(part: str, rows: Iterable[Row]) -> ShortNames:
    return ShortNames.of(row.settings.get(part) for row in rows)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows sorted by their names, numbers in them by value."""
    names = RowNames.of(rows)

    def key(row: Row) -> list[list[tuple[float, str]]]:
        return [natural(name) for name in names.all(row)]

    return sorted(rows, key=key)


def natural(text: str) -> list[tuple[float, str]]:
    """Returns a key to sort names by, with the numbers in them by value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    keys = []
    for index, part in enumerate(parts):
        if index % 2:  # a number
            keys.append((float(part), ""))
        else:
            keys.append((0.0, part))
    return keys
