"""The pages of results by what they measure: their index, and their navigation."""

import tomllib
from typing import Any

from tree_links import ROOT

RESULTS = ROOT / "experiments" / "results"
PLACES = ROOT / "docs" / "generator" / "results.toml"


def sections() -> dict[str, list[str]]:
    """Title of each section -> the names of its pages."""
    found = tomllib.loads(PLACES.read_text(encoding="utf-8"))
    return {section["title"]: section["pages"] for section in found["section"]}


def results_index() -> str:
    """The page that lists the pages of results by their titles, a section a question."""
    lines = ["# Results", ""]
    lines += [
        "Each page starts with the command that made it, its date and machine, and tells",
        "what fails. [A line of each](../../docs/measured.md) is on one page; the settings of",
        "every run are in the [grids](../../experiments/grids).",
    ]
    for title, pages in sections().items():
        lines += ["", f"## {title}", ""]
        for page in pages:
            text = (RESULTS / f"{page}.md").read_text(encoding="utf-8")
            heading = text.partition("\n")[0].strip("# ")
            lines.append(f"- [{heading}]({page}.md)")
    return "\n".join(lines) + "\n"


def results_navigation() -> list[Any]:
    """The pages of results, a section a question."""
    entries: list[Any] = ["results/index.md", "measured.md"]
    for title, pages in sections().items():
        entries.append({title: [f"results/{page}.md" for page in pages]})
    return entries
