"""What is told of every method, model and data set that a grid can name.

Built-in ones are read from their source, so that no torch is imported; plug-ins are imported.
"""

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any

from experiments.plan.kinds import WITH_METHODS
from experiments.report.listing.needs import (
    declared,
    declared_live,
    kinds_of,
    kinds_of_live,
)
from experiments.report.listing.source import (
    REQUIRED,
    Module,
    UnreadableError,
    fields_of,
    find,
    is_marked,
    read_table,
)
from poisonbench.registry import Broken, Table

METHODS = {f"{kind.part}s": kind.methods for kind in WITH_METHODS}
MARK = "experimental"
THINGS = {
    "models": "poisonbench.models:MODELS",
    "datasets": "poisonbench.data:DATASETS",
}


@dataclass(frozen=True)
class MethodText:
    """What is told of a method.

    Attributes:
        where: "module:Class".
        paragraphs: what it is, what it needs, what it costs.
        fields: its hyperparameters with their defaults, `REQUIRED` where there is none.
        made: those whose default a function makes anew.
        experimental: it says of itself that it may still change.
        needs: what an estimator asks of a run, and where its fields decide, each case.
        kinds: of data that it takes, case by case; empty if it does not say.
    """

    where: str
    paragraphs: tuple[str, ...]
    fields: Mapping[str, object]
    made: frozenset[str] = frozenset()
    experimental: bool = False
    needs: tuple[tuple[str, ...], ...] = ()
    kinds: tuple[tuple[str, ...], ...] = ()


def methods(title: str) -> dict[str, MethodText | Broken]:
    """Returns what is told of each method of a kind, and of each plug-in, sorted by name."""
    target = METHODS[title]
    entries = read_table(target)
    plugins = Table(dict.fromkeys(entries, object), f"poisonbench.{title}")
    found: dict[str, MethodText | Broken] = {}
    for name in sorted(plugins):
        if name in entries:
            try:
                found[name] = _from_source(*entries[name])
            except UnreadableError:
                found[name] = from_class(_live(target)[name])
        else:
            found[name] = from_class(plugins[name])
    return found


def things(title: str) -> dict[str, str]:
    """Returns the first line of the docstring of each model or data set, sorted by name."""
    target = THINGS[title]
    found = {}
    for name, (module, value) in sorted(read_table(target).items()):
        try:
            if isinstance(
                value, ast.Call
            ):  # a reader made by a call, which tells what it reads
                text = _last_text(value)
            elif isinstance(value, ast.Name):
                text = ast.get_docstring(find(module, value.id)[1]) or ""
            else:
                raise UnreadableError(ast.unparse(value))
        except UnreadableError:
            text = inspect.getdoc(_live(target)[name]) or ""
        found[name] = text.partition("\n")[0]
    return found


def _last_text(call: ast.Call) -> str:
    texts = [node.value for node in call.args if isinstance(node, ast.Constant)]
    if not texts:
        raise UnreadableError(ast.unparse(call))
    return str(texts[-1])


def _live(target: str) -> Mapping[str, Any]:
    """The table itself, imported."""
    module, _, name = target.partition(":")
    table: Mapping[str, Any] = getattr(import_module(module), name)
    return table


def _from_source(module: Module, value: ast.expr) -> MethodText:
    if not isinstance(value, ast.Name):
        raise UnreadableError(ast.unparse(value))
    where, cls = find(module, value.id)
    text = where.head or ast.get_docstring(cls)
    if not text or not isinstance(cls, ast.ClassDef):
        raise UnreadableError(value.id)
    return MethodText(
        where=f"{where.name}:{cls.name}",
        paragraphs=_paragraphs(text),
        fields=fields_of(where, cls),
        experimental=is_marked(cls, MARK),
        needs=tuple(declared(cls, "needs")),
        kinds=tuple(kinds_of(where, cls)),
    )


def from_class(cls: type | Broken) -> MethodText | Broken:
    """Returns what is told of a method that is imported.

    The docstring of the class stands in for a missing docstring of its module.
    """
    if isinstance(cls, Broken):
        return cls
    text = sys.modules[cls.__module__].__doc__ or cls.__doc__ or ""
    defaults: dict[str, object] = {}
    made = set()
    for field in fields(cls):
        if field.default is not MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory()
            made.add(field.name)
        else:
            defaults[field.name] = REQUIRED
    return MethodText(
        where=f"{cls.__module__}:{cls.__qualname__}",
        paragraphs=_paragraphs(text),
        fields=defaults,
        made=frozenset(made),
        experimental=vars(cls).get(MARK) is True,
        needs=tuple(declared_live(cls, "needs")),
        kinds=tuple(kinds_of_live(cls)),
    )


def _paragraphs(text: str) -> tuple[str, ...]:
    """The first paragraph of a docstring, and those on needs and cost, each in one line."""
    head, *others = text.split("\n\n")
    told = [head]
    told += [part for part in others if part.startswith(("Needs:", "Cost"))]
    return tuple(" ".join(part.split()) for part in told)
