"""Results to text: tables for people, everything for programs (CSV, JSON)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evaluation.load import Results
from experiments.evaluation.summary import summarise
from experiments.report.exports import to_csv, to_json
from experiments.report.markup import to_latex, to_markdown
from experiments.report.tables import tables
from experiments.report.text import WIDTH, to_text
from poisonbench import log

MARKUP = {"markdown": to_markdown, "latex": to_latex}
EXPORTS = {"csv": to_csv, "json": to_json}


@dataclass(frozen=True)
class Asked:
    """How the rows are to be shown.

    Attributes:
        against: a detector with which the others are compared, with paired intervals.
        by: keys; rows are means over all else.
        sort: a metric, empty for the order of the names.
        ascending: the smallest value first.
        width: of tables for the terminal, in columns.
    """

    against: str | None = None
    by: Sequence[str] = ()
    sort: str = ""
    ascending: bool = False
    width: int = WIDTH


def render(results: Results, form: str = "table", asked: Asked | None = None) -> str:
    """Returns the results as text.

    Args:
        results: of a run.
        form: "table" (for the terminal), "markdown", "latex", "csv" or "json".
        asked: how the rows are to be shown.

    Raises:
        ValueError: there is no such form.
        ConfigError: what is asked names no detector, key or metric of the results.
    """
    known = ["table", *MARKUP, *EXPORTS]
    if form not in known:
        raise ValueError(f"form must be one of {', '.join(known)}, got {form!r}")
    asked = asked or Asked()
    summary = summarise(results, asked.against, asked.by)
    if asked.sort:
        summary = summary.sorted_by(asked.sort, asked.ascending)
    if form in EXPORTS:
        return EXPORTS[form](summary)
    made = tables(summary)
    if form == "table":
        texts = [to_text(table, asked.width) for table in made]
    else:
        texts = [MARKUP[form](table) for table in made]
    if not texts:
        return "No results yet."
    if asked.by:
        texts.insert(0, f"One row for each {', '.join(asked.by)}: means over all else.")
    return "\n\n".join([*texts, _made_by(results)])


def _made_by(results: Results) -> str:
    """Returns by which versions the logs were made, and on which processors if on several."""
    records = [record for of_kind in results.records.values() for record in of_kind]
    lines = _counted("by", log.versions_of(record.attributes for record in records))
    processors = log.processors_of(record.attributes for record in records)
    if len(processors) > 1:
        lines += _counted("on", processors)
    return "\n".join(lines)


def _counted(by: str, counts: Counter[str]) -> list[str]:
    """Returns a line for each of the counted, the most frequent first."""
    lines = []
    for words, count in counts.most_common():
        logs = "1 log" if count == 1 else f"{count} logs"
        lines.append(f"{logs} {by} {words}")
    return lines
