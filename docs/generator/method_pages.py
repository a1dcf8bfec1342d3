"""A page for each method that a grid can name, from its source and from what was measured."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from docstrings import escaped
from method_source import PARTS, Method, described, methods, words
from tree_links import ROOT

from experiments.report.listing.needs import kinds_of
from experiments.report.listing.source import REQUIRED, fields_of, is_marked

NOTES = ROOT / "docs" / "generator" / "notes.toml"
TITLES = {  # part of a grid -> what its methods do
    "attack": (
        "Attacks",
        "poison the training set, and say which test points they attack.",
    ),
    "estimator": (
        "Estimators",
        "score how much each training row helped each prediction.",
    ),
    "detector": ("Detectors", "judge test points: does the prediction rest on poison?"),
    "filter": ("Filters", "judge training rows: which are poison?"),
    "mitigation": ("Mitigations", "take the poison out of a trained victim."),
    "certifier": (
        "Certifiers",
        "predict with a guarantee against changed training rows.",
    ),
    "group": ("Groups", "choose training rows whose joint influence is measured."),
    "memorisation": ("Memorisation", "measures what a row gives its own prediction."),
    "truth": ("Truth", "say how right an estimator is, by training again."),
}
USES = {
    "influence": "the influence of every training row on the points",
    "features": "the victim's features",
    "gradients": "gradients of the final model",
    "probe": "the other points under judgement, too",
    "reference": "points that are known to be clean",
    "retraining": "training runs of the victim's recipe",
    "detector": "a detector's flags",
    "filter": "a filter's scores",
    "oracle": "the ground truth, which no defender has",
}
NOT_MEASURED = "No page of results has it."


def titled(part: str) -> tuple[str, str]:
    """What the methods of a part are called, and what they do."""
    return TITLES.get(part, (f"{part.capitalize()}s", ""))


def method_pages() -> dict[str, str]:
    """Path below docs -> text, of every method and of the list of each kind."""
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    pages = {}
    for part in PARTS:
        own = [method for method in methods() if method.part == part]
        pages[f"methods/{own[0].folder}/index.md"] = list_page(part, own)
        for method in own:
            told = notes.get(method.folder, {}).get(method.name, [])
            path = f"methods/{method.folder}/{method.name}.md"
            pages[path] = method_page(method, told)
    return pages


def methods_index() -> str:
    """The page of all kinds of methods."""
    lines = ["# Methods", ""]
    lines += [
        "A method is one file and a frozen dataclass: its fields are its hyperparameters.",
        "These pages are made from the files themselves. *Where it works, and where it fails*",
        "is taken from the [pages of results](../../experiments/results), and says so.",
        "",
        "| kind | in a grid | methods |",
        "|---|---|---|",
    ]
    for part in PARTS:
        title, about = titled(part)
        own = [method for method in methods() if method.part == part]
        names = ", ".join(f"[`{m.name}`]({m.folder}/{m.name}.md)" for m in own)
        kind = f"[{title}]({own[0].folder}/index.md) {about}"
        lines.append(f"| {kind} | `[[{part}]]` | {names} |")
    return "\n".join(lines) + "\n"


def list_page(part: str, own: list[Method]) -> str:
    """The page of the methods of a kind."""
    title, about = titled(part)
    head = f"# {title}\n\n{title} {about}\n\n| name | what it does |\n|---|---|"
    rows = [f"| [`{m.name}`]({m.name}.md) | {m.line} |" for m in own]
    last = f"\n`poisonbench list {part}s` prints them with all fields and defaults.\n"
    return "\n".join([head, *rows, last])


def method_page(method: Method, notes: list[Mapping[str, str]]) -> str:
    """The page of a method.

    Args:
        method: the method.
        notes: what was measured of it, each with `text` and the `page` of results.
    """
    parts = [f"# {method.name}", linked(escaped(method.head))]
    if is_marked(method.cls, "experimental"):
        parts.append("**Experimental: it may still change.**")
    parts += ["\n".join(facts(method)), "## Where it works, and where it fails"]
    parts += [noted(note) for note in notes] or [NOT_MEASURED]
    table = fields_table(method)
    if table:
        parts += ["## Fields", table]
    parts += ["## In a grid", grid_example(method), "## The class"]
    parts.append(class_block(method))
    return "\n\n".join(parts) + "\n"


def facts(method: Method) -> list[str]:
    """What it takes and asks for, a line each."""
    lines = []
    kinds = [", ".join(case) for case in kinds_of(method.module, method.cls)]
    if kinds:
        lines.append(f"- Data: {'; or '.join(kinds)}.")
    needs = [", ".join(case) for case in words(method.cls, "needs")]
    if needs:
        lines.append(f"- Needs of a run: {'; or '.join(needs)}.")
    cases = words(method.cls, "uses")
    uses = dict.fromkeys(name for case in cases for name in case)
    if uses:
        told = "; ".join(USES.get(name, name) for name in uses)
        some = "Reads, by its fields" if len(cases) > 1 else "Reads"
        lines.append(f"- {some}: {told}.")
    lines.append(f"- Source: [{method.source}](../../../{method.source}).")
    return lines


def noted(note: Mapping[str, str]) -> str:
    """A note with the page that it rests on."""
    page = note["page"]
    return f"- {note['text']} ([{page}](../../../experiments/results/{page}.md))"


def linked(text: str) -> str:
    """A text with its arXiv numbers as links."""
    return re.sub(
        r"arXiv[ :](\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text
    )


def fields_table(method: Method) -> str:
    """Its hyperparameters with defaults and meanings; empty where it has none."""
    about = described(method.module, method.cls)
    rows = []
    for name, default in fields_of(method.module, method.cls).items():
        shown = "required" if default is REQUIRED else f"`{default!r}`"
        meaning = escaped(about.get(name, "")).replace("|", "\\|")
        rows.append(f"| `{name}` | {shown} | {meaning} |")
    if not rows:
        return ""
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *rows])


def grid_example(method: Method) -> str:
    """Its table of a grid file, with the defaults that TOML can say."""
    lines = ["```toml", f"[[{method.part}]]", f'name = "{method.name}"']
    for name, default in fields_of(method.module, method.cls).items():
        if default is REQUIRED:
            lines.append(f'{name} = "..."')
        elif default is not None and default != ():
            lines.append(f"{name} = {toml(default)}")
    return "\n".join([*lines, "```"])


def toml(value: Any) -> str:
    """A plain value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    return repr(value)


def class_block(method: Method) -> str:
    """What mkdocstrings shows of its class: the fields are in a table of their own."""
    return "\n".join(
        [
            f"::: {method.module.name}.{method.cls.name}",
            "    options:",
            "      show_docstring_attributes: false",
            "      filters: ['!^_[^_]', '!^__(?!call__)', '!^kinds$', '!^needs$', '!^uses$']",
        ]
    )
