"""What a grid can name, as text for people and as JSON: hyperparameters and defaults too."""

import json
import textwrap
from typing import Any

from experiments.report.listing.source import REQUIRED
from experiments.report.listing.tables import TABLES, keys_of
from experiments.report.listing.texts import (
    MARK,
    METHODS,
    THINGS,
    MethodText,
    methods,
    things,
)
from poisonbench.registry import Broken

WIDTH = 110  # columns
MARGIN = 30  # columns of the names


def catalogue(kind: str | None) -> str:
    """Returns every name of `kind` (None: of all kinds), what it is and costs, and its fields."""
    blocks = []
    for title in _titles(kind):
        lines = [f"{title}:"]
        if title in METHODS:
            for name, told in methods(title).items():
                lines.append(_entry(name, _shown(told)))
        elif title in TABLES:
            for name, key in keys_of(title).items():
                lines.append(_entry(f"{name}={key.default!r}", [key.about]))
        else:
            for name, about in things(title).items():
                lines.append(_entry(name, [about]))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(kind: str | None) -> str:
    """Returns the same for a program.

    Kind -> name -> `about`, for a key of a table also its `default`, and for a method `class` and
    `fields`, or why it is `broken`.
    """
    found: dict[str, dict[str, Any]] = {}
    for title in _titles(kind):
        found[title] = {}
        if title in METHODS:
            for name, told in methods(title).items():
                found[title][name] = _content(told)
        elif title in TABLES:
            for name, key in keys_of(title).items():
                found[title][name] = {"about": key.about, "default": key.default}
        else:
            for name, about in things(title).items():
                found[title][name] = {"about": about}
    return json.dumps(found, indent=2, default=repr)


def _titles(kind: str | None) -> list[str]:
    """The kinds to tell of."""
    if kind is not None:
        return [kind]
    return [*METHODS, *THINGS, *TABLES]


def _content(told: MethodText | Broken) -> dict[str, Any]:
    if isinstance(told, Broken):
        return {"broken": told.reason}
    defaults = dict(told.fields)
    for name, default in told.fields.items():
        if default is REQUIRED or name in told.made:
            defaults[name] = None
    content: dict[str, Any] = {
        "about": told.paragraphs[0],
        "class": told.where,
        "fields": defaults,
    }
    if told.experimental:
        content[MARK] = True
    if told.needs:
        content["needs"] = told.needs
    if told.kinds:
        content["kinds"] = told.kinds
    return content


def _shown(told: MethodText | Broken) -> list[str]:
    if isinstance(told, Broken):
        return [f"Cannot be used: {told.reason}"]
    described = []
    for name, default in told.fields.items():
        if default is REQUIRED:
            described.append(f"{name} (required)")
        else:
            described.append(f"{name}={default!r}")
    lines = list(told.paragraphs)
    if told.experimental:
        lines.append("Experimental: it may still change.")
    if told.kinds:
        kinds = [", ".join(case) for case in told.kinds]
        lines.append(f"Data: {'; or '.join(kinds)}")
    if told.needs:
        cases = [", ".join(case) for case in told.needs]
        lines.append(f"Needs of a run: {'; or '.join(cases)}")
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
