"""Tables of a grid file to values: a list is an axis, and every fault is collected with the key's path."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from poisonbench.errors import ConfigError
from poisonbench.models import MODELS
from poisonbench.registry import lookup, nearest
from poisonbench.training import Recipe

NONE = "none"  # how a grid file, TOML without a null, writes None in a field that may hold it


@dataclass
class Faults:
    """Collects faults with the key's path."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        """Adds what is wrong at a key."""
        self.lines.append(f"{path}: {what}")


def typed_as(value: Any, hint: Any) -> tuple[Any, str]:
    """Returns the value in the type `hint` and "", or (None, what is wrong). Strict: no number from a string."""
    try:
        adapter = TypeAdapter(hint)
    except (
        Exception
    ):  # pydantic raises several types on a type that it does not know, such as a tensor
        return None, f"a grid file cannot set a field of type {hint!r}"
    try:
        return adapter.validate_python(value, strict=True), ""
    except ValidationError as strict:
        if value == NONE and type(None) in get_args(hint):
            return None, ""
        if isinstance(value, list):  # TOML has no tuples
            try:
                return adapter.validate_python(value), ""
            except ValidationError:
                pass
        return None, "; ".join(
            dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in strict.errors())
        )


def axis(value: Any, hint: Any, path: str, faults: Faults) -> list[Any]:
    """Returns the values that a key takes: one, or those of a list, which is an axis unless the field itself takes a list."""
    inner, tables = _inner(hint), value if isinstance(value, list) else [value]
    if (
        inner and value in (None, NONE) and type(None) in get_args(hint)
    ):  # None: from the configuration of a log
        return [None]
    if inner and tables and all(isinstance(table, dict) for table in tables):
        found = [made for table in tables for made in expand(inner, table, path, faults)]
        return [
            made for made in found if not isinstance(made, Recipe) or is_model(made, path, faults)
        ]
    if inner:
        faults.add(
            path,
            f"is a table, written [{path}] or {path.rpartition('.')[2]} = {{...}}, got {value!r}",
        )
        return []
    typed, wrong = typed_as(value, hint)
    if not wrong:
        return [typed]
    if not isinstance(value, list):
        faults.add(path, f"{wrong}, got {value!r}")
        return []
    if not value:
        faults.add(path, "an axis needs at least one value, got []")
    results = [(entry, *typed_as(entry, hint)) for entry in value]
    for entry, _, fault in results:
        if fault:
            faults.add(path, f"{fault}, got {entry!r}")
    return [typed for _, typed, fault in results if not fault]


def settable(cls: type) -> dict[str, Field[Any]]:
    """Returns the fields of a dataclass that a grid file may set, by name: all but those that only a program can give."""
    return {f.name: f for f in fields(cls) if f.init and f.metadata.get("settable", True)}


def plain(value: Any) -> dict[str, Any]:
    """Returns the settable fields of a dataclass, and of those inside it, as a grid file writes them."""
    table: dict[str, Any] = {}
    for name, f in settable(type(value)).items():
        held = getattr(value, name)
        if held is not None:
            table[name] = plain(held) if is_dataclass(held) else held
        elif f.default is not None:
            table[name] = NONE
    return table


def _inner(hint: Any) -> type | None:
    """Returns the dataclass that a field of type `hint` may hold, which a grid file writes as a table inside the table."""
    return next(
        (kind for kind in (hint, *get_args(hint)) if isinstance(kind, type) and is_dataclass(kind)),
        None,
    )


def expand(cls: type, table: Mapping[str, Any], path: str, faults: Faults) -> Iterator[Any]:
    """Yields the instances of the dataclass `cls` over the product of all lists of `table`."""
    before, known = len(faults.lines), settable(cls)
    try:
        hints = get_type_hints(cls)
    except Exception as error:  # a class from outside the tree may name types that are not there
        faults.add(
            path,
            f"the annotations of {cls.__name__} cannot be read: {type(error).__name__}: {error}",
        )
        return
    for name in table:
        if name not in known:
            allowed = ", ".join(known) or "none"
            faults.add(f"{path}.{name}", f"unknown key{nearest(name, known)} (allowed: {allowed})")
    for name, f in known.items():
        if name not in table and f.default is MISSING and f.default_factory is MISSING:
            faults.add(f"{path}.{name}", "is missing and has no default")
    axes = {
        name: axis(table[name], hints[name], f"{path}.{name}", faults)
        for name in known
        if name in table
    }
    if len(faults.lines) > before:
        return
    for values in itertools.product(*axes.values()):
        try:
            made = cls(**dict(zip(axes, values, strict=True)))
            hash(made)  # a grid tells methods apart by their values
        except (
            Exception
        ) as error:  # a class from outside the tree may check its fields by any means
            faults.add(
                path,
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}",
            )
        else:
            yield made


def is_model(recipe: Recipe, path: str, faults: Faults) -> bool:
    """Whether the recipe names a model that there is; a fault otherwise."""
    return known_name(MODELS, recipe.model, "model", f"{path}.model", faults) is not None


def known_name(table: Mapping[str, Any], name: Any, kind: str, path: str, faults: Faults) -> Any:
    """Returns what `name` stands for in `table` or outside the tree; None and a fault if it stands for nothing."""
    if not isinstance(name, str):
        faults.add(path, f"input should be a string, got {name!r}")
        return None
    try:
        return lookup(table, name, kind)
    except ConfigError as error:
        faults.add(path, str(error))
        return None
