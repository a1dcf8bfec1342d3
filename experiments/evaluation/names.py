"""The names and cells of tables.

A method is called by its name and by those hyperparameters alone in which it differs from others of that name in the results.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from experiments.evaluation.rows import Row

Config = Mapping[str, Any]


def short_names(configs: Iterable[Config | None]) -> Callable[[Config | None], str]:
    """Returns a function from a method's configuration to its name and those fields that vary among `configs` of that name."""
    values: dict[str, dict[str, set[str]]] = {}
    known = [config for config in configs if config]
    for config in known:
        fields = values.setdefault(str(config.get("name")), {})
        for field in {
            field for other in known if other.get("name") == config.get("name") for field in other
        }:
            fields.setdefault(field, set()).add(json.dumps(config.get(field), sort_keys=True))

    def name(config: Config | None) -> str:
        if not config:
            return "none"
        varying = [
            field
            for field, found in values.get(str(config.get("name")), {}).items()
            if len(found) > 1
        ]
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
    fields = {
        key: value
        for part in parts.values()
        for key, value in part.items()
        if key not in ("name", "model")
    }
    name = f"{parts['dataset'].get('name', '?')} {parts['recipe'].get('model', '')}".strip()
    if not (transfer := row.settings.get("transfer")):
        return {"name": name, **fields}
    return {
        "name": f"{name} transfer",
        **fields,
        **{f"transfer {key}": value for key, value in transfer.items()},
    }


def in_order(rows: list[Row]) -> list[Row]:
    """Returns the rows sorted by their names, numbers in them by value."""
    names = naming(rows)
    return sorted(rows, key=lambda row: [natural(name) for name in names(row)])


def natural(text: str) -> list[tuple[float, str]]:
    """Returns a key to sort names by, with the numbers in them by value."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", text)
    return [(float(part), "") if i % 2 else (0.0, part) for i, part in enumerate(parts)]


def naming(
    rows: Iterable[Row], parts: Sequence[str] = ("estimator", "detector")
) -> Callable[[Row], tuple[str, ...]]:
    """Returns a function from a row to the short names of its attack (with its scene, if several occur) and of `parts`.

    The last name tells what the methods take beyond the victim.
    """
    rows = list(rows)
    scene = short_names(scene_config(row) for row in rows)
    one_scene = len({scene(scene_config(row)) for row in rows}) == 1
    by_part = {
        part: short_names(row.settings.get(part) for row in rows) for part in ("attack", *parts)
    }

    def names(row: Row) -> tuple[str, ...]:
        attack, *others, last = (name(row.settings.get(part)) for part, name in by_part.items())
        where = [] if one_scene else [scene(scene_config(row))]
        what = [attack] if "attack" in row.settings else []
        return (
            ", ".join(what + where) or "all",
            *others,
            last + (f" [{row.uses}]" if row.uses else ""),
        )

    return names
