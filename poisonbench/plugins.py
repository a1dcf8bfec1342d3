"""Methods of other distributions: a table of names, and behind it those that installed packages declare as entry points.

A package offers an attack by two lines of its pyproject.toml, and everything that names attacks then knows it:

    [project.entry-points."poisonbench.attacks"]
    my-attack = "my_package.my_module:MyAttack"

Nothing is imported before its name is used. A plug-in that cannot be loaded says so where it is named and harms nothing else.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points

from poisonbench.errors import PluginWarning


@dataclass(frozen=True)
class Broken:
    """Stands in a table for a plug-in that cannot be used.

    Attributes:
        reason: who ships it, and what is wrong with it.
    """

    reason: str

    hint = "mend or uninstall the package; nothing else is affected"


class Table(Mapping[str, "type | Broken"]):
    """The names of `own`, and behind them those of an entry-point group; read anew when `sys.path` changes.

    A plug-in under a name that is taken is left out, with a `PluginWarning`.

    Args:
        own: the built-in names.
        group: of the entry points, e.g. "poisonbench.attacks".
    """

    def __init__(self, own: Mapping[str, type], group: str) -> None:
        self.own, self.group = own, group
        self._path: list[str] | None = None
        self._found: dict[str, EntryPoint] = {}

    def _plugins(self) -> dict[str, EntryPoint]:
        if self._path != sys.path:
            self._path, self._found = list(sys.path), self._scan()
        return self._found

    def _scan(self) -> dict[str, EntryPoint]:
        try:
            declared = entry_points(group=self.group)
        except Exception as error:  # one package with a malformed file makes the library raise for all of them
            warnings.warn(f"plug-ins of {self.group} cannot be listed: {_told(error)}", PluginWarning, stacklevel=4)
            return {}
        found: dict[str, EntryPoint] = {}
        for entry in declared:
            winner = "the built-in one" if entry.name in self.own else _source(found[entry.name]) if entry.name in found else ""
            if winner:
                what = f"{entry.name!r} of {_source(entry)} ({self.group}) is hidden by {winner}; it is still {entry.value!r}"
                warnings.warn(what, PluginWarning, stacklevel=4)
            else:
                found[entry.name] = entry
        return found

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
    except (Exception, SystemExit) as error:  # a foreign module may raise anything on import
        return Broken(f"{where}: {_told(error)}")
    if not (isinstance(found, type) and is_dataclass(found)):
        return Broken(f"{where}: it is no dataclass: a method is a frozen dataclass whose fields are its hyperparameters")
    return found


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _source(entry: EntryPoint) -> str:
    """The distribution that declares an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"
