"""What a grid can name: every method, model and data set, with hyperparameters and defaults.

Built-in ones are read from their source, so that no torch is imported; plug-ins are imported.
"""

import ast
import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import Any

from experiments.report.source import (
    REQUIRED,
    UnreadableError,
    fields_of,
    find,
    is_marked,
    read_table,
)
from poisonbench.registry import Broken, Table

WIDTH = 110  # columns
MARGIN = 30  # columns of the names

METHODS = {
    "attacks": "attacks:ATTACKS",
    "estimators": "estimators:ESTIMATORS",
    "detectors": "defenses:DETECTORS",
    "filters": "defenses:FILTERS",
    "certifiers": "defenses:CERTIFIERS",
    "mitigations": "defenses:MITIGATIONS",
}
MARK = "experimental"
THINGS = {"models": "poisonbench.models:MODELS", "datasets": "poisonbench.data:DATASETS"}


@dataclass(frozen=True)
class MethodText:
    """What is told of a method.

    Attributes:
        where: "module:Class".
        paragraphs: what it is, what it needs, what it costs.
        fields: its hyperparameters with their defaults, `REQUIRED` where there is none.
        made: those whose default a function makes anew.
        experimental: it says of itself that it may still change.
    """

    where: str
    paragraphs: tuple[str, ...]
    fields: Mapping[str, object]
    made: frozenset[str] = frozenset()
    experimental: bool = False


def catalogue(kind: str | None) -> str:
    """Returns every name of `kind` (None: of all kinds), what it is and costs, and its fields."""
    blocks = []
    for title in [kind] if kind else [*METHODS, *THINGS]:
        lines = [f"{title}:"]
        if title in METHODS:
            lines += [_entry(name, _shown(told)) for name, told in methods(title).items()]
        else:
            lines += [_entry(name, [line]) for name, line in things(title).items()]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(kind: str | None) -> str:
    """Returns the same for a program.

    Kind -> name -> `about`, and for a method also `class` and `fields`, or why it is `broken`.
    """
    found: dict[str, dict[str, Any]] = {}
    for title in [kind] if kind else [*METHODS, *THINGS]:
        if title in METHODS:
            found[title] = {name: _content(told) for name, told in methods(title).items()}
        else:
            found[title] = {name: {"about": line} for name, line in things(title).items()}
    return json.dumps(found, indent=2, default=repr)


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
            if isinstance(value, ast.Call):  # a reader made by a call, which tells what it reads
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


def _from_source(module: Any, value: ast.expr) -> MethodText:
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
        defaults[field.name] = REQUIRED if field.default is MISSING else field.default
        if field.default_factory is not MISSING:
            defaults[field.name] = field.default_factory()
            made.add(field.name)
    return MethodText(
        where=f"{cls.__module__}:{cls.__qualname__}",
        paragraphs=_paragraphs(text),
        fields=defaults,
        made=frozenset(made),
        experimental=vars(cls).get(MARK) is True,
    )


def _paragraphs(text: str) -> tuple[str, ...]:
    """The first paragraph of a docstring, and those on needs and cost, each in one line."""
    head, *others = text.split("\n\n")
    told = [head, *[part for part in others if part.startswith(("Needs:", "Cost"))]]
    return tuple(" ".join(part.split()) for part in told)


def _content(told: MethodText | Broken) -> dict[str, Any]:
    if isinstance(told, Broken):
        return {"broken": told.reason}
    defaults = {}
    for name, default in told.fields.items():
        unknown = default is REQUIRED or name in told.made
        defaults[name] = None if unknown else default
    content = {"about": told.paragraphs[0], "class": told.where, "fields": defaults}
    return content | {MARK: True} if told.experimental else content


def _shown(told: MethodText | Broken) -> list[str]:
    if isinstance(told, Broken):
        return [f"Cannot be used: {told.reason}"]
    described = []
    for name, default in told.fields.items():
        described.append(f"{name} (required)" if default is REQUIRED else f"{name}={default!r}")
    lines = list(told.paragraphs)
    if told.experimental:
        lines.append("Experimental: it may still change.")
    if described:
        lines.append(f"Fields: {', '.join(described)}")
    return lines


def _entry(name: str, paragraphs: list[str]) -> str:
    """The name in a column of its own, the paragraphs beside it, each from a new line."""
    lines = []
    for text in paragraphs:
        lines += textwrap.wrap(text, WIDTH - MARGIN, break_on_hyphens=False)
    if not lines:
        return f"  {name:{MARGIN - 3}} "
    first = f"  {name:{MARGIN - 3}} {lines[0]}"
    rest = [" " * MARGIN + line for line in lines[1:]]
    return "\n".join([first, *rest])
