"""Tables of a grid file to values: a list is an axis, and every fault is collected with its key."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from poisonbench.errors import ConfigError
from poisonbench.models import MODELS
from poisonbench.models.build import arguments_fault
from poisonbench.registry import lookup, nearest
from poisonbench.training import Recipe

ABSENT = "is missing and has no default"
NONE = "none"  # how a grid file, TOML without a null, writes None in a field that may hold it


@dataclass
class Faults:
    """Collects faults with the key's path."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        """Adds what is wrong at a key."""
        self.lines.append(f"{path}: {what}")


@dataclass(frozen=True)
class Typed:
    """A value in the type that its field wants, or what is wrong with it."""

    value: Any = None
    wrong: str = ""


def typed_as(value: Any, hint: Any) -> Typed:
    """Returns the value in the type `hint`. Strict: no number from a string."""
    try:
        adapter = TypeAdapter(hint)
    # pydantic raises several types on a type that it does not know, such as a tensor
    except Exception:
        return Typed(wrong=f"a grid file cannot set a field of type {hint!r}")
    try:
        return Typed(adapter.validate_python(value, strict=True))
    except ValidationError as error:
        if value == NONE and _may_be_none(hint):
            return Typed()
        if isinstance(value, list):  # TOML has no tuples
            try:
                return Typed(adapter.validate_python(value))
            except ValidationError:
                pass
        messages = [_uncapitalised(fault["msg"]) for fault in error.errors()]
        return Typed(wrong="; ".join(dict.fromkeys(messages)))


def _may_be_none(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _uncapitalised(text: str) -> str:
    return text[0].lower() + text[1:]


def axis(value: Any, hint: Any, path: str, faults: Faults) -> list[Any]:
    """Returns the values that a key takes: one, or those of a list.

    A list is an axis of the grid unless the field itself takes a list.
    """
    inner = _inner(hint)
    if inner is not None:
        return _tables_of(inner, value, hint, path, faults)
    typed = typed_as(value, hint)
    if not typed.wrong:
        return [typed.value]
    if not isinstance(value, list):
        faults.add(path, f"{typed.wrong}, got {value!r}")
        return []
    if not value:
        faults.add(path, "an axis needs at least one value, got []")
    values = []
    for entry in value:
        typed = typed_as(entry, hint)
        if typed.wrong:
            faults.add(path, f"{typed.wrong}, got {entry!r}")
        else:
            values.append(typed.value)
    return values


def _tables_of(
    cls: type, value: Any, hint: Any, path: str, faults: Faults
) -> list[Any]:
    """The instances of `cls` that a table inside a table stands for, or a list of such tables."""
    if value in (None, NONE) and _may_be_none(
        hint
    ):  # None: from the configuration of a log
        return [None]
    tables = value if isinstance(value, list) else [value]
    if not tables or not all(isinstance(table, dict) for table in tables):
        way = f"[{path}] or {path.rpartition('.')[2]} = {{...}}"
        faults.add(path, f"is a table, written {way}, got {value!r}")
        return []
    found = [made for table in tables for made in expand(cls, table, path, faults)]
    if cls is Recipe:
        return [recipe for recipe in found if is_model(recipe, path, faults)]
    return found


def _inner(hint: Any) -> type | None:
    """The dataclass that a field of type `hint` may hold: a table inside the table."""
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return None


def settable(cls: type) -> dict[str, Field[Any]]:
    """Returns the fields of a dataclass that a grid file may set, by name.

    These are all but those that only a program can give.
    """
    return {
        f.name: f for f in fields(cls) if f.init and f.metadata.get("settable", True)
    }


def plain(value: Any) -> dict[str, Any]:
    """Returns the settable fields of a dataclass, nested ones too, as a grid file writes them."""
    table: dict[str, Any] = {}
    for name, f in settable(type(value)).items():
        held = getattr(value, name)
        if is_dataclass(held):
            table[name] = plain(held)
        elif held is not None:
            table[name] = held
        elif f.default is not None:
            table[name] = NONE
    return table


def expand(
    cls: type, table: Mapping[str, Any], path: str, faults: Faults
) -> Iterator[Any]:
    """Yields the instances of the dataclass `cls` over the product of all lists of `table`."""
    before = len(faults.lines)
    axes = _axes(cls, table, path, faults)
    if len(faults.lines) > before:
        return
    for values in itertools.product(*axes.values()):
        try:
            made = cls(**dict(zip(axes, values, strict=True)))
            hash(made)  # a grid tells methods apart by their values
        except ValueError as error:
            faults.add(path, str(error))
        except (
            Exception
        ) as error:  # a class from outside the tree may check its fields by any means
            faults.add(path, f"{type(error).__name__}: {error}")
        else:
            yield made


def _axes(
    cls: type, table: Mapping[str, Any], path: str, faults: Faults
) -> dict[str, list[Any]]:
    """The values of each key of `table`, by the names of the fields of `cls`."""
    known = settable(cls)
    try:
        hints = get_type_hints(cls)
    except (
        Exception
    ) as error:  # a class from outside the tree may name types that are not there
        what = f"{type(error).__name__}: {error}"
        faults.add(path, f"the annotations of {cls.__name__} cannot be read: {what}")
        return {}
    for name in table:
        if name not in known:
            allowed = ", ".join(known) or "none"
            faults.add(
                f"{path}.{name}",
                f"unknown key{nearest(name, known)} (allowed: {allowed})",
            )
    axes = {}
    for name, f in known.items():
        if name in table:
            axes[name] = axis(table[name], hints[name], f"{path}.{name}", faults)
        elif f.default is MISSING and f.default_factory is MISSING:
            faults.add(f"{path}.{name}", ABSENT)
    return axes


def is_model(recipe: Recipe, path: str, faults: Faults) -> bool:
    """Whether the recipe names a model that there is and takes its arguments; a fault otherwise."""
    if known_name(MODELS, recipe.model, "model", f"{path}.model", faults) is None:
        return False
    why = arguments_fault(recipe.model, recipe.model_args)
    if why:
        faults.add(f"{path}.model_args", why)
    return not why


def known_name(
    table: Mapping[str, Any], name: Any, kind: str, path: str, faults: Faults
) -> Any:
    """Returns what `name` stands for in `table` or outside; None and a fault if nothing."""
    if not isinstance(name, str):
        faults.add(path, f"input should be a string, got {name!r}")
        return None
    try:
        return lookup(table, name, kind)
    except ConfigError as error:
        faults.add(path, str(error))
        return None
