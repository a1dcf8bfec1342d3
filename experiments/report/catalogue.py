"""What a grid can name: every method, model and data set, with hyperparameters and defaults."""

import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from experiments.plan.methods import TABLES
from poisonbench.data import DATASETS
from poisonbench.models import MODELS
from poisonbench.registry import Broken

WIDTH = 110  # columns
MARGIN = 30  # columns of the names

METHODS: dict[str, Mapping[str, Any]] = {f"{name}s": table for name, table in TABLES.items()}
THINGS: dict[str, Mapping[str, Any]] = {"models": MODELS, "datasets": DATASETS}


def catalogue(kind: str | None) -> str:
    """Returns every name of `kind` (None: of all kinds), what it is and costs, and its fields."""
    blocks = []
    for title in [kind] if kind else [*METHODS, *THINGS]:
        lines = [f"{title}:"]
        for name, thing in sorted((METHODS | THINGS)[title].items()):
            told = _paragraphs(thing) if title in METHODS else [_first_line(thing)]
            lines.append(_entry(name, told))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(kind: str | None) -> str:
    """Returns the same for a program.

    Kind -> name -> `about`, and for a method also `class` and `fields`, or why it is `broken`.
    """
    found: dict[str, dict[str, Any]] = {}
    for title, methods in METHODS.items():
        found[title] = {name: _method(methods[name]) for name in sorted(methods)}
    for title, things in THINGS.items():
        found[title] = {name: {"about": _first_line(things[name])} for name in sorted(things)}
    chosen = {title: found[title] for title in ([kind] if kind else found)}
    return json.dumps(chosen, indent=2, default=repr)


def _method(cls: type | Broken) -> dict[str, Any]:
    if isinstance(cls, Broken):
        return {"broken": cls.reason}
    defaults = {}
    for field in fields(cls):
        defaults[field.name] = None if field.default is MISSING else field.default
    name = f"{cls.__module__}:{cls.__qualname__}"
    return {"about": _paragraphs(cls)[0], "class": name, "fields": defaults}


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


def _paragraphs(cls: type | Broken) -> list[str]:
    """What the head of a method's module says, what it needs, its cost, and its fields.

    The docstring of the class stands in for a head that is missing. Of a plug-in that cannot be used:
    why.
    """
    if isinstance(cls, Broken):
        return [f"Cannot be used: {cls.reason}"]
    text = sys.modules[cls.__module__].__doc__ or cls.__doc__ or ""
    head, *others = text.split("\n\n")
    told = [head, *[part for part in others if part.startswith(("Needs:", "Cost"))]]
    paragraphs = [" ".join(part.split()) for part in told]
    described = ", ".join(_field(field) for field in fields(cls))
    if described:
        paragraphs.append(f"Fields: {described}")
    return paragraphs


def _field(field: "Field[Any]") -> str:
    if field.default is not MISSING:
        return f"{field.name}={field.default!r}"
    if field.default_factory is not MISSING:
        return f"{field.name}={field.default_factory()!r}"
    return f"{field.name} (required)"


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
