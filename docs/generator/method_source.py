"""The methods that a grid can name, read from their source."""

import ast
import re
from dataclasses import dataclass
from functools import cache

from docstrings import escaped
from tree_links import ROOT

from experiments.plan.kinds import WITH_METHODS
from experiments.report.listing.needs import declared
from experiments.report.listing.source import (
    Module,
    UnreadableError,
    find,
    read_table,
)
from experiments.report.listing.tables import attributes

PARTS = tuple(kind.part for kind in WITH_METHODS)


@dataclass(frozen=True)
class Method:
    """A method, as its page needs it.

    Attributes:
        part: of a grid: "attack", "detector", ...
        name: in a grid.
        module: where it is defined.
        cls: its class.
    """

    part: str
    name: str
    module: Module
    cls: ast.ClassDef

    @property
    def folder(self) -> str:
        """Its folder below `methods/`."""
        return f"{self.part}s"

    @property
    def head(self) -> str:
        """The docstring of its file."""
        return self.module.head or ""

    @property
    def own(self) -> str:
        """The docstring of its class."""
        return ast.get_docstring(self.cls) or ""

    @property
    def source(self) -> str:
        """Its file, from the root of the tree."""
        stem = self.module.name.replace(".", "/")
        path = f"{stem}.py"
        return path if (ROOT / path).is_file() else f"{stem}/__init__.py"

    @property
    def line(self) -> str:
        """What it is, in the first sentence of its class."""
        first = " ".join(self.own.split("\n\n")[0].split())
        return escaped(re.split(r"(?<=\.) ", first)[0])


@cache
def methods() -> tuple[Method, ...]:
    """All methods, by the part of a grid that names them."""
    found = []
    for kind in WITH_METHODS:
        for name, (module, value) in sorted(read_table(kind.methods).items()):
            if not isinstance(value, ast.Name):
                raise UnreadableError(ast.unparse(value))
            where, cls = find(module, value.id)
            if not isinstance(cls, ast.ClassDef):
                raise UnreadableError(value.id)
            found.append(Method(kind.part, name, where, cls))
    return tuple(found)


def words(cls: ast.ClassDef, name: str) -> list[tuple[str, ...]]:
    """What a class declares under a name, case by case; nothing where it computes that."""
    try:
        return declared(cls, name)
    except UnreadableError:
        return []


def described(module: Module, cls: ast.ClassDef) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of each field."""
    found: dict[str, str] = {}
    for base in cls.bases:
        if isinstance(base, ast.Name) and base.id not in ("ABC", "Protocol"):
            where, definition = find(module, base.id)
            if isinstance(definition, ast.ClassDef):
                found |= described(where, definition)
    return found | attributes(ast.get_docstring(cls) or "")
