"""Texts for people: what a log holds, and what a grid can name."""

import inspect
import json
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from experiments.plan.methods import TABLES
from poisonbench.data import DATASETS
from poisonbench.log import Array, Record
from poisonbench.models import MODELS
from poisonbench.registry import Broken

WIDTH, MARGIN = 110, 30  # columns of a catalogue, and of its names


def describe(record: Record) -> str:
    """Returns the kind, configuration, data sets and attributes of a log as text."""
    lines = [f"{record.path}", f"kind: {record.kind}", "", "configuration:"]
    lines += [f"  {line}" for line in json.dumps(record.config, indent=2).splitlines()[1:-1]]
    lines += ["", "data:"]
    width = max((len(key) for key in record.data), default=0)
    for key, value in sorted(record.data.items()):
        lines.append(f"  {_printable(key):{width}}  {_summary(value)}")
    lines += ["", "attributes:"]
    lines += [
        f"  {_printable(key)}: {_printable(str(value))}"
        for key, value in sorted(record.attributes.items())
    ]
    return "\n".join(lines)


def _printable(text: str) -> str:
    """A log is untrusted: no control characters reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _summary(value: Array) -> str:
    if value.dtype.kind in "SUO":
        text = value.tobytes().decode("utf-8", "replace") if value.dtype.kind == "S" else str(value)
        return _printable(text[:200].replace("\0", ""))
    if value.ndim == 0:
        return f"{value.dtype} {value}"
    head = f"{value.dtype} {'x'.join(map(str, value.shape))}"
    if not value.size or value.dtype == bool:
        return head + (f", {int(value.sum())} true" if value.size else "")
    finite = value[np.isfinite(value)]
    bad = value.size - finite.size
    span = f", {finite.min():.6g} to {finite.max():.6g}" if finite.size else ""
    return head + span + (f", {bad} not finite" if bad else "")


def catalogue(kind: str | None) -> str:
    """Returns every name of `kind` (None: of all kinds), what it is and costs, and its hyperparameters with their defaults."""
    methods: dict[str, Mapping[str, Any]] = {f"{name}s": table for name, table in TABLES.items()}
    plain: dict[str, Mapping[str, Any]] = {"models": MODELS, "datasets": DATASETS}
    blocks: list[str] = []
    for title in [kind] if kind else [*methods, *plain]:
        entries = sorted((methods | plain)[title].items())
        texts = [
            _about(thing) if title in methods else [_first_line(thing)] for _, thing in entries
        ]
        lines = [_entry(name, text) for (name, _), text in zip(entries, texts, strict=True)]
        blocks.append("\n".join([f"{title}:", *lines]))
    return "\n\n".join(blocks)


def as_json(kind: str | None) -> str:
    """Returns what `catalogue` tells for a program: kind -> name -> about, and for a method its fields or why it is broken."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in TABLES.items():
        found[f"{name}s"] = {key: _told(table[key]) for key in sorted(table)}
    found["models"] = {key: {"about": _first_line(thing)} for key, thing in sorted(MODELS.items())}
    found["datasets"] = {
        key: {"about": _first_line(thing)} for key, thing in sorted(DATASETS.items())
    }
    return json.dumps(
        {title: found[title] for title in ([kind] if kind else found)}, indent=2, default=repr
    )


def _told(cls: type | Broken) -> dict[str, Any]:
    if isinstance(cls, Broken):
        return {"broken": cls.reason}
    defaults = {f.name: None if f.default is MISSING else f.default for f in fields(cls)}
    return {
        "about": _about(cls)[0],
        "class": f"{cls.__module__}:{cls.__qualname__}",
        "fields": defaults,
    }


def _entry(name: str, texts: list[str]) -> str:
    """The name in a column of its own, the texts beside it, each from a new line."""
    wrapped = [
        line
        for text in texts
        for line in textwrap.wrap(text, WIDTH - MARGIN, break_on_hyphens=False)
    ]
    lines = [" " * MARGIN + line for line in wrapped] or [""]
    return (
        f"  {name:{MARGIN - 3}} " + lines[0][MARGIN:] + "".join("\n" + line for line in lines[1:])
    )


def _about(cls: type | Broken) -> list[str]:
    """Why a plug-in cannot be used, or what the module's head says (the class's where it has none), its cost, and the fields."""
    if isinstance(cls, Broken):
        return [f"Cannot be used: {cls.reason}"]
    paragraphs = (sys.modules[cls.__module__].__doc__ or cls.__doc__ or "").split("\n\n")
    told = [part for part in paragraphs[1:] if part.startswith(("Needs:", "Cost"))]
    return [" ".join(part.split()) for part in (paragraphs[0], *told)] + (
        [_fields(cls)] if fields(cls) else []
    )


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _fields(cls: type) -> str:
    def default(f: "Field[Any]") -> str:
        if f.default is not MISSING:
            return f"={f.default!r}"
        return f"={f.default_factory()!r}" if f.default_factory is not MISSING else " (required)"

    return "Fields: " + ", ".join(f.name + default(f) for f in fields(cls))
