"""The tables of methods, by the part of a grid that names them."""

from dataclasses import is_dataclass
from typing import Any

from experiments.plan.kind import named
from experiments.plan.kinds import WITH_METHODS
from poisonbench.registry import Table

TABLES = {
    kind.part: Table(named(kind.methods), f"poisonbench.{kind.part}s")
    for kind in WITH_METHODS
}


def is_method(thing: object) -> bool:
    """Whether it is a class whose instances are values: a frozen dataclass."""
    if not (isinstance(thing, type) and is_dataclass(thing)):
        return False
    parameters: Any = getattr(thing, "__dataclass_params__")  # noqa: B009 - unknown to the type checker
    return bool(parameters.frozen)
