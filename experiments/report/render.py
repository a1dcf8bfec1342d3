"""Results to text: tables for people, everything for programs (CSV, JSON)."""

from experiments.evaluation.load import Results
from experiments.evaluation.summary import summarise
from experiments.report.exports import to_csv, to_json
from experiments.report.markup import to_latex, to_markdown
from experiments.report.tables import tables
from experiments.report.text import to_text
from poisonbench import log

READABLE = {"table": to_text, "markdown": to_markdown, "latex": to_latex}
EXPORTS = {"csv": to_csv, "json": to_json}


def render(results: Results, form: str = "table", against: str | None = None) -> str:
    """Returns the results as text.

    Args:
        results: of a run.
        form: "table" (for the terminal), "markdown", "latex", "csv" or "json".
        against: a detector with which the others are compared, with paired intervals.

    Raises:
        ValueError: there is no such form.
        ConfigError: `against` names no detector of the results, or several.
    """
    known = [*READABLE, *EXPORTS]
    if form not in known:
        raise ValueError(f"form must be one of {', '.join(known)}, got {form!r}")
    summary = summarise(results, against)
    if form in EXPORTS:
        return EXPORTS[form](summary)
    texts = [READABLE[form](table) for table in tables(summary)]
    if not texts:
        return "No results yet."
    return "\n\n".join([*texts, _made_by(results)])


def _made_by(results: Results) -> str:
    """Returns by which versions the logs were made: one line for each."""
    records = [record for of_kind in results.records.values() for record in of_kind]
    counts = log.versions_of(record.attributes for record in records)
    lines = []
    for words, count in counts.most_common():
        logs = "1 log" if count == 1 else f"{count} logs"
        lines.append(f"{logs} by {words}")
    return "\n".join(lines)
