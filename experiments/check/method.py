"""What holds of every method.

It is a value that names itself, is told in a log, set in a grid file, and sent to a worker.
"""

import inspect
import pickle
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import tomli_w

from experiments.check.verdict import Check, FindingError, require, skip
from experiments.plan.fields import plain
from experiments.plan.identity import canonical
from experiments.plan.methods import is_method
from experiments.plan.parse import parse
from experiments.plan.spec import Method
from poisonbench.errors import ConfigError


@dataclass(frozen=True)
class Subject:
    """A method to be checked.

    Attributes:
        kind: "attack", "estimator", "detector".
        name: a name of its table, or package.module:Class.
        value: the method itself.
    """

    kind: str
    name: str
    value: Any


def made(kind: str, cls: Any, name: str, settings: Mapping[str, Any]) -> Any:
    """Returns the method of that name with these hyperparameters, as a grid would make it.

    What is no method is made as Python would.

    Raises:
        ConfigError: a field is unknown, of another type or out of its range.
    """
    if is_method(cls):
        methods = _in_grid(kind, name, settings)
        if len(methods) != 1:
            raise ConfigError(
                [f"--set names {len(methods)} methods: one value per field"]
            )
        return methods[0]
    try:
        return cls(**settings)  # no dataclass: a rule will say so
    except Exception as error:
        raise ConfigError(
            [f"{kind} {name!r} cannot be made: {type(error).__name__}: {error}"]
        ) from error


def _in_grid(kind: str, name: str, settings: Mapping[str, Any]) -> list[Any]:
    """The methods that a grid file makes of a table."""
    raw = {"attack": [{"name": "none"}], "estimator": [{"name": "gas"}]}
    grid = parse({**raw, kind: [{"name": name, **settings}]}, fit=False)
    if kind == "attack":
        return [scene.attack.value for scene in grid.scenes]
    return [method.value for method in grid.methods(kind)]


def _frozen(s: Subject) -> str:
    name = type(s.value).__name__
    require(is_dataclass(s.value), f"{name} is no dataclass")
    require(is_method(type(s.value)), f"{name} is a dataclass without frozen=True")
    return f"{name}, {len(fields(s.value))} fields"


def _values_only(s: Subject) -> None:
    """Skips a rule of what is no value."""
    if not is_method(type(s.value)):
        raise skip("it is no frozen dataclass")


def _named(s: Subject) -> str:
    _values_only(s)
    text = repr(s.value)
    name = type(s.value).__name__
    require(text.startswith(f"{name}("), f"its repr is {text}")
    told = [f.name for f in fields(s.value) if f.metadata.get("configured", True)]
    silent = [name for name in told if f"{name}=" not in text]
    require(not silent, f"its repr leaves out {', '.join(silent)}: {text}")
    return text


def _value(s: Subject) -> str:
    _values_only(s)
    twin = replace(s.value)
    require(twin == s.value, "a copy with equal fields is not equal")
    require(hash(twin) == hash(s.value), "a copy with equal fields has another hash")
    return "a copy with equal fields is equal, and hashes alike"


def _told(s: Subject) -> str:
    _values_only(s)
    config = Method(s.name, s.value).config
    try:
        text = canonical(config)
    except (TypeError, ValueError) as error:
        raise FindingError("fail", f"its fields are no JSON: {error}") from error
    return f"{len(text)} bytes of JSON"


def _settable(s: Subject) -> str:
    _values_only(s)
    try:
        text = tomli_w.dumps(plain(s.value))
        back = _in_grid(s.kind, s.name, tomllib.loads(text))
    except (TypeError, ConfigError) as error:
        raise FindingError("fail", f"a grid file does not make it: {error}") from error
    require(back == [s.value], f"a grid file makes {back} of it")
    return "a grid file makes the same of its fields"


def _sent(s: Subject) -> str:
    try:
        back = pickle.loads(pickle.dumps(s.value))  # noqa: S301 - our own bytes
    except Exception as error:
        told = f"it cannot be pickled: {error}; define the class at the top of a module"
        raise FindingError("fail", told) from error
    alike = type(back) is type(s.value)
    if is_method(type(s.value)):
        alike = back == s.value
    require(alike, "what arrives is not equal to what was sent")
    return "it arrives in another process as it is"


def _described(s: Subject) -> str:
    head = sys.modules[type(s.value).__module__].__doc__ or ""
    if not head.strip():
        raise FindingError(
            "warn", "its module has no docstring: `list` has nothing to show"
        )
    silent = _unexplained(s.value)
    if silent:
        name = type(s.value).__name__
        raise FindingError(
            "warn", f"the docstring of {name} does not explain {', '.join(silent)}"
        )
    return head.strip().partition("\n")[0]


def _unexplained(value: Any) -> list[str]:
    """The fields that the docstring of a method's class does not name."""
    if not is_dataclass(value):
        return []
    text = inspect.getdoc(type(value)) or ""
    if text.startswith(f"{type(value).__name__}("):  # the one that `dataclass` makes
        text = ""
    names = [field.name for field in fields(value)]
    return [name for name in names if f"{name}:" not in text]


METHOD = {
    "frozen": Check(
        "a method is a frozen dataclass whose fields are its hyperparameters", _frozen
    ),
    "repr": Check("its repr names the class and every field", _named),
    "value": Check("equal fields make equal methods", _value),
    "config": Check("its fields are JSON, and so tell in a log what was run", _told),
    "grid": Check("a grid file can set every field", _settable),
    "process": Check("it can be sent to a worker process", _sent),
    "described": Check(
        "the head of its module says what it does, its class what each field means",
        _described,
    ),
}
