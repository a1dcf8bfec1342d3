"""The tables of methods, by the part of a grid that names them, and the methods that it names."""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from experiments.plan.fields import Faults, expand, known_name
from experiments.plan.kind import named
from experiments.plan.kinds import WITH_METHODS
from experiments.plan.outside import code_of, code_of_models, joined
from experiments.plan.spec import Method
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
