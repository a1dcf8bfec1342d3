"""Keyword arguments of a function that makes a model."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from poisonbench.data import Layout
from poisonbench.errors import ConfigError

PLAIN = (bool, int, float, str)


class Arguments(dict[str, Any]):
    """Keyword arguments that are not to be changed: numbers, words, truth values, tuples of these.

    Equal ones have equal hashes, so that a recipe that holds them can be told from others.
    """

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        """Takes the arguments by name; lists become tuples.

        Raises:
            ValueError: a name is no text, or a value cannot stand in a grid file.
        """
        held = {}
        for name, value in (values or {}).items():
            held[name] = _plain(name, value)
        super().__init__(held)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


NONE = Arguments({})


def _plain(name: object, value: object) -> object:
    if not isinstance(name, str):
        raise ValueError(f"names in model_args must be text, got {name!r}")
    if isinstance(value, list | tuple):
        return tuple(_plain(name, entry) for entry in value)
    if not isinstance(value, PLAIN):
        kind = type(value).__name__
        raise ValueError(
            f"model_args.{name} must be a number, text, a truth value or a list, got {kind}"
        )
    return value


def called(
    make: Callable[..., object],
    name: str,
    layout: Layout,
    arguments: Mapping[str, Any],
) -> object:
    """Returns what a function from outside returns.

    It is called with shape and classes, or with nothing where it takes no such two. With
    `arguments`, it is called with these, by name, and with `shape` and `classes` if it has
    parameters of these names.

    Raises:
        ConfigError: the function does not take the arguments.
    """
    if not arguments:
        if _wants_nothing(make):
            return make()
        _check(make, name, (layout.shape, layout.classes), {})
        return make(layout.shape, layout.classes)
    named = {**_layout_of(make, layout), **arguments}
    _check(make, name, (), named)
    return make(**named)


def check_arguments(
    make: Callable[..., object], name: str, arguments: Mapping[str, Any]
) -> None:
    """Raises ConfigError for arguments that a function from outside does not take."""
    if arguments:
        _check(make, name, (), {**_layout_of(make, None), **arguments})
    elif not _wants_nothing(make):
        _check(make, name, (None, None), {})


def _layout_of(make: Callable[..., object], layout: Layout | None) -> dict[str, Any]:
    """Returns `shape` and `classes` for a function that has parameters of these names."""
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return {}
    if "shape" not in parameters or "classes" not in parameters:
        return {}
    if layout is None:
        return {"shape": None, "classes": None}
    return {"shape": layout.shape, "classes": layout.classes}


def _wants_nothing(make: Callable[..., object]) -> bool:
    """Whether a function makes one model, and is not to be told shape and classes.

    What takes any keyword, as the functions of torchvision do, may still want the classes.
    """
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return False
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return False
    return _binds(signature, ()) and not _binds(signature, (None, None))


def _binds(signature: inspect.Signature, given: tuple[object, ...]) -> bool:
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


def _check(
    make: Callable[..., object],
    name: str,
    given: tuple[object, ...],
    named: Mapping[str, Any],
) -> None:
    """Raises ConfigError for arguments that do not fit the signature, where there is one."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*given, **named)
    except TypeError as error:
        way = "a function (shape, classes), or model_args = { num_classes = 10 }"
        told = "(shape, classes)" if given else f"({', '.join(named)})"
        raise ConfigError(
            [f"model {name!r} cannot be called with {told}: {error}"], way
        ) from None
