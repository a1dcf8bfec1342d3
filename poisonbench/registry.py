"""Names to things: explicit tables, `package.module:attribute` for what lies outside the tree, and the nearest name for typos."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from poisonbench.errors import ConfigError
from poisonbench.plugins import Broken

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?` for the known name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def lookup(table: Mapping[str, T | Broken], name: str, kind: str) -> T:
    """Finds `name` in `table`, or imports it when it has the form `package.module:attribute`.

    Args:
        table: name -> thing.
        name: what to look for.
        kind: what the table holds, for the error: "attack", "model", ...

    Raises:
        ConfigError: no such name, module or attribute, or a plug-in that cannot be loaded.
    """
    if name in table:
        found = table[name]
        if isinstance(found, Broken):
            raise ConfigError([f"{kind} {name!r} cannot be used: {found.reason}"], found.hint)
        return found
    if ":" in name:
        thing: T = _imported(name, kind)
        return thing
    known = ", ".join(sorted(table))
    raise ConfigError([f"unknown {kind} {name!r}{nearest(name, table)}"], f"known: {known}; or package.module:attribute")


def _imported(target: str, kind: str) -> Any:
    module, _, attribute = target.partition(":")
    hint = "the form is package.module:attribute, and the module must be importable (PYTHONPATH)"
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError([f"{kind} {target!r}: cannot import {module!r}: {error}"], hint) from error
    except Exception as error:  # a module outside the tree may raise anything on import
        raise ConfigError([f"{kind} {target!r}: importing {module!r} raised {type(error).__name__}: {error}"]) from error
    if not hasattr(found, attribute):
        raise ConfigError([f"{kind} {target!r}: module {module!r} has no {attribute!r}"], hint)
    return getattr(found, attribute)
