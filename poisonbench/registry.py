"""Names to things: tables, entry points of installed packages, and `package.module:attribute`.

A package offers an attack by two lines of its pyproject.toml, and everything that names attacks
then knows it:

    [project.entry-points."poisonbench.attacks"]
    my-attack = "my_package.my_module:MyAttack"

Nothing is imported before its name is used. A plug-in that cannot be loaded says so where it is
named and harms nothing else. Needs no torch.
"""

import difflib
import importlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from poisonbench.errors import ConfigError, PluginWarning

T = TypeVar("T")


@dataclass(frozen=True)
class Broken:
    """Stands in a table for a plug-in that cannot be used.

    Attributes:
        reason: who ships it, and what is wrong with it.
    """

    reason: str

    hint = "mend or uninstall the package; nothing else is affected"


class Table(Mapping[str, "type | Broken"]):
    """The names of `own`, and behind them those of an entry-point group.

    The group is read anew when `sys.path` changes. A plug-in under a name that is taken is left
    out, with a `PluginWarning`.

    Args:
        own: the built-in names.
        group: of the entry points, e.g. "poisonbench.attacks".
    """

    def __init__(self, own: Mapping[str, type], group: str) -> None:
        self.own = own
        self.group = group
        self._path: list[str] | None = None
        self._found: dict[str, EntryPoint] = {}

    def _plugins(self) -> dict[str, EntryPoint]:
        if self._path != sys.path:
            self._path = list(sys.path)
            self._found = self._scan()
        return self._found

    def _scan(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in self._declared():
            if entry.name in self.own:
                self._warn_of_hidden(entry, "the built-in one")
            elif entry.name in found:
                self._warn_of_hidden(entry, _source(found[entry.name]))
            else:
                found[entry.name] = entry
        return found

    def _declared(self) -> Iterable[EntryPoint]:
        """What installed packages declare; one malformed file makes the library raise for all."""
        try:
            return entry_points(group=self.group)
        except Exception as error:
            told = f"plug-ins of {self.group} cannot be listed: {_told(error)}"
            warnings.warn(told, PluginWarning, stacklevel=5)
            return ()

    def _warn_of_hidden(self, entry: EntryPoint, winner: str) -> None:
        what = (
            f"{entry.name!r} of {_source(entry)} ({self.group}) is hidden by {winner}"
        )
        told = f"{what}; it is still {entry.value!r}"
        warnings.warn(told, PluginWarning, stacklevel=5)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self._plugins()

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self._plugins()

    def __len__(self) -> int:
        return len(self.own) + len(self._plugins())

    def __getitem__(self, name: str) -> "type | Broken":
        """The class of that name, imported now if it is a plug-in; `Broken` if that fails."""
        if name in self.own:
            return self.own[name]
        return _load(self._plugins()[name])


def _load(entry: EntryPoint) -> "type | Broken":
    where = f"{_source(entry)} offers {entry.value!r}"
    try:
        found = entry.load()
    except (
        Exception,
        SystemExit,
    ) as error:  # a foreign module may raise anything on import
        return Broken(f"{where}: {_told(error)}")
    if not (isinstance(found, type) and is_dataclass(found)):
        rule = "a method is a frozen dataclass whose fields are its hyperparameters"
        return Broken(f"{where}: it is no dataclass: {rule}")
    return found


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"


def _source(entry: EntryPoint) -> str:
    """The distribution that declares an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"


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
            told = f"{kind} {name!r} cannot be used: {found.reason}"
            raise ConfigError([told], found.hint)
        return found
    if ":" in name:
        thing: T = _imported(name, kind)
        return thing
    known = ", ".join(sorted(table))
    raise ConfigError(
        [f"unknown {kind} {name!r}{nearest(name, table)}"],
        f"known: {known}; or package.module:attribute",
    )


def _imported(target: str, kind: str) -> Any:
    """The attribute of a module, as `package.module:attribute` names them."""
    module, _, attribute = target.partition(":")
    head = f"{kind} {target!r}"
    hint = "the form is package.module:attribute, and the module must be importable (PYTHONPATH)"
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            [f"{head}: cannot import {module!r}: {error}"], hint
        ) from error
    except Exception as error:  # a module outside the tree may raise anything on import
        told = f"{type(error).__name__}: {error}"
        raise ConfigError([f"{head}: importing {module!r} raised {told}"]) from error
    if not hasattr(found, attribute):
        place = getattr(found, "__file__", None)
        which = f"module {module!r} has no {attribute!r}"
        raise ConfigError([f"{head}: {which} (it is {place})"], hint)
    return getattr(found, attribute)


def made(
    table: Mapping[str, Any], kind: str, what: object, settings: Mapping[str, Any]
) -> Any:
    """Returns a method: that of a name with these hyperparameters, or `what` itself.

    Args:
        table: name -> class.
        kind: what the table holds, for the error.
        what: a name of the table, `package.module:Class`, or a method.
        settings: field -> value, for a name.

    Raises:
        ConfigError: no such name or field, or settings beside a method that has its own.
        ValueError: a value that the method refuses.
    """
    if not isinstance(what, str):
        if settings:
            given = ", ".join(settings)
            told = f"{kind} {what!r} has its own hyperparameters, got also {given}"
            raise ConfigError([told], "give them to its class, or give its name")
        return what
    cls = lookup(table, what, kind)
    known = [field.name for field in fields(cls) if field.init]
    faults = []
    for name in settings:
        if name not in known:
            near = nearest(name, known)
            faults.append(f"{kind} {what!r} has no hyperparameter {name!r}{near}")
    if faults:
        raise ConfigError(faults, f"known: {', '.join(known) or 'none'}")
    return cls(**settings)
