"""The tables of methods, by the part of a grid that names them, and the methods that it names."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from experiments.plan.fields import Faults, expand, known_name
from experiments.plan.kind import named
from experiments.plan.kinds import WITH_METHODS
from experiments.plan.outside import code_of, code_of_models, joined
from experiments.plan.spec import Applied, Method
from poisonbench.registry import Table

TABLES = {
    kind.part: Table(named(kind.methods), f"poisonbench.{kind.part}s")
    for kind in WITH_METHODS
}


def is_method(thing: object) -> bool:
    """Whether it is a class whose instances are values: a frozen dataclass."""
    if not (isinstance(thing, type) and is_dataclass(thing)):
        return False
    # getattr: the attribute is unknown to the type checker
    parameters: Any = getattr(thing, "__dataclass_params__")  # noqa: B009
    return bool(parameters.frozen)


def methods_of(
    table: Mapping[str, Any], part: str, path: str, faults: Faults
) -> Iterator[Method]:
    """Yields the methods of one table [[part]], over the product of its axes."""
    name = table.get("name")
    cls = known_name(TABLES[part], name, part, f"{path}.name", faults)
    if cls is None:
        return
    if not is_method(cls):
        what = "a method is a frozen dataclass whose fields are its hyperparameters"
        faults.add(f"{path}.name", f"{name} is no frozen dataclass: {what}")
        return
    own = {key: value for key, value in table.items() if key != "name"}
    code = code_of(cls, str(name))
    for value in expand(cls, own, path, faults):
        yield Method(str(name), value, joined([code, code_of_models(value)]))


def named_methods(
    entries: Any, part: str, faults: Faults, of: tuple[str, ...] = ()
) -> list[Applied]:
    """Returns the methods of a part: names or tables, one or a list.

    Args:
        entries: what the file holds.
        part: of which it is.
        faults: gets what is wrong.
        of: parts of which a table may name those methods with which its own are combined.
    """
    if not isinstance(entries, list):
        entries = [entries]
    found: list[Applied] = []
    for i, entry in enumerate(entries):
        path = f"{part}[{i}]"
        table = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict):
            faults.add(path, f"is a name or a table, got {entry!r}")
            continue
        own = {key: value for key, value in table.items() if key not in of}
        chosen = [(key, names_in(table[key])) for key in of if key in table]
        methods = methods_of(own, part, path, faults)
        found += [Applied(part, method, tuple(chosen)) for method in methods]
    return found


def names_in(value: Any) -> tuple[str, ...]:
    """Returns the names that a key holds: one, or a list."""
    return tuple(map(str, value)) if isinstance(value, list) else (str(value),)
