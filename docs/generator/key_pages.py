"""The page of the keys of a grid file that are no methods, and of the names of data and models."""

from experiments.report.listing.tables import TABLES, keys_of
from experiments.report.listing.texts import things

INTRODUCTION = """# Keys and names of a grid file

The tables of a grid file that are no methods, key by key with their defaults, and the names of data
sets and models. `poisonbench list recipe`, `list probe`, `list transfer`, `list datasets` and
`list models` print the same. The tables of methods are on the pages of the
[methods](methods/index.md); [grids](grids.md) says how they go together.
"""
MEANINGS = {
    "dataset": "Or its name alone.",
    "recipe": "How victims are trained, and every model that a method trains. A list is an axis.",
    "transfer": "The victim starts from features pretrained on rows that it never sees.",
    "probe": "How many attacked and clean test points are judged in a scene.",
}


def cell(text: str) -> str:
    """A text as a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def keys_page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for title in TABLES:
        about = MEANINGS.get(title, "")
        parts.append(f"## {title}\n\nThe table `[{title}]`. {about}\n")
        rows = ["| key | default | meaning |", "|---|---|---|"]
        for name, key in keys_of(title).items():
            rows.append(f"| `{name}` | `{key.default!r}` | {cell(key.about)} |")
        parts.append("\n".join(rows) + "\n")
    for title in ("datasets", "models"):
        named = {"datasets": "Data sets", "models": "Models"}[title]
        rows = ["| name | what it is |", "|---|---|"]
        for name, about in things(title).items():
            rows.append(f"| `{name}` | {cell(about)} |")
        parts.append(f"## {named}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)
