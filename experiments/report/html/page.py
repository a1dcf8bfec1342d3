"""One page of HTML about a run, with everything in it: it asks the network for nothing.

All that comes from logs is text: Jinja2 escapes it, characters that are no print are left out, and
the policy of the page runs no script but its own.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from experiments.evaluation.load import Results
from experiments.evaluation.summary import Summary
from experiments.report.exports import to_csv
from experiments.report.html.gallery import Gallery, TrainingRows, gallery
from experiments.report.html.glance import at_a_glance
from experiments.report.html.headline import sentences
from experiments.report.html.images import data_uri
from experiments.report.html.losses import loss_charts
from experiments.report.html.origin import (
    facts,
    given_table,
    grid_file,
    time_table,
    warning_table,
)
from experiments.report.html.plots import plots
from experiments.report.html.undone import Undone
from experiments.report.html.web_table import web_table
from experiments.report.table import Table
from experiments.report.tables import tables
from experiments.report.text import printable

FOLDER = Path(__file__).parent
FAULTS = ("FAILED", "DAMAGED")  # told apart from the other tables
COSTS = ("COSTS",)


@dataclass(frozen=True, eq=False)
class Told:
    """What a page is made of.

    Attributes:
        results: of a run.
        summary: their rows, of which all tables and plots are made.
        lacks: what there is no result of.
    """

    results: Results
    summary: Summary
    lacks: Undone


def page(told: Told, training_rows: TrainingRows) -> str:
    """Returns the page.

    Args:
        told: what it is made of.
        training_rows: gives rows of the poisoned training set of a scene; it may raise
            PoisonbenchError.
    """
    shown = gallery(told.results, training_rows)
    return render(told, shown)


def render(told: Told, shown: Gallery) -> str:
    """Returns the page with these pictures of instances."""
    results = told.results
    summary = told.summary
    made = tables(summary)
    of_results = [table for table in made if table.title not in (*FAULTS, *COSTS)]
    of_costs = [table for table in made if table.title in COSTS]
    of_costs.append(time_table(results))
    of_origin = [given_table(results), warning_table(results)]
    csv = to_csv(summary).encode("utf-8")
    style = _own("style.css")
    script = _own("script.js")
    file_name, grid = grid_file(results.folder)
    values: dict[str, Any] = {
        "title": results.folder.resolve().name,
        "policy": _policy(style, script),
        "style": Markup(style),  # noqa: S704 - a file of this package
        "script": Markup(script),  # noqa: S704
        "sentences": sentences(summary, told.lacks),
        "glance": _web([at_a_glance(summary)]),
        "complete": told.lacks.nothing,
        "tables": _web(of_results),
        "plots": plots(results, summary),
        "gallery": shown,
        "audit": bool(summary.points),
        "charts": loss_charts(results, summary.scenes["victims"]),
        "costs": _web(of_costs),
        "facts": facts(results),
        "origin": _web(of_origin),
        "file_name": file_name,
        "grid": grid,
        "undone": _web(told.lacks.tables),
        "csv": data_uri(csv, "text/csv;charset=utf-8"),
    }
    return _environment().get_template("page.html").render(values)


def _web(made: list[Table] | tuple[Table, ...]) -> list[Any]:
    """The tables that have rows, as the page shows them."""
    return [web_table(table) for table in made if table.rows]


def _own(name: str) -> str:
    """A file that belongs to the page."""
    return (FOLDER / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What a browser may load and run: the page's own style and script, and images in it."""
    rules = [
        "default-src 'none'",
        "img-src data:",
        f"style-src {_digest(style)}",
        f"script-src {_digest(script)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finished,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finished(value: Any) -> Any:
    """A text without characters that are no print, lines apart; anything else as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(printable(line) for line in value.split("\n"))
    return value
