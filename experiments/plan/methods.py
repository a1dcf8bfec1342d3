"""The tables of methods, by the kind under which a grid names them."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from attacks import ATTACKS
from defenses import CERTIFIERS, DETECTORS, FILTERS, MITIGATIONS
from estimators import ESTIMATORS
from poisonbench.registry import Table

BUILT_IN: dict[str, Mapping[str, type]] = {
    "attack": ATTACKS,
    "estimator": ESTIMATORS,
    "detector": DETECTORS,
    "filter": FILTERS,
    "certifier": CERTIFIERS,
    "mitigation": MITIGATIONS,
}


TABLES = {kind: Table(table, f"poisonbench.{kind}s") for kind, table in BUILT_IN.items()}


def is_method(thing: object) -> bool:
    """Whether it is a class whose instances are values: a frozen dataclass."""
    if not (isinstance(thing, type) and is_dataclass(thing)):
        return False
    parameters: Any = getattr(thing, "__dataclass_params__")  # noqa: B009 - unknown to the type checker
    return bool(parameters.frozen)
