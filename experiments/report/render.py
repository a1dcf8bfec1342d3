"""Tables to text: aligned for the terminal, Markdown and LaTeX to be read; CSV and JSON with everything in full precision."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby, zip_longest
from typing import Any

from experiments.evaluation.load import Results
from experiments.evaluation.names import short
from experiments.evaluation.rows import Row
from experiments.evaluation.summary import Summary, summarise
from experiments.report.table import Table
from experiments.report.tables import tables

WIDTH = 110  # columns of the terminal
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}


def render(results: Results, form: str = "table", against: str | None = None) -> str:
    """Returns the results as `form`: "table" (for the terminal), "markdown", "latex", "csv" or "json".

    Args:
        results: of a run.
        form: see above.
        against: a detector that the others are held against, with paired intervals (`paired.py`).

    Raises:
        ValueError: there is no such form.
        ConfigError: `against` names no detector of the results, or several.
    """
    forms = {"table": to_text, "markdown": to_markdown, "latex": to_latex}
    summary = summarise(results, against)
    if form in ("csv", "json"):
        return to_csv(summary) if form == "csv" else to_json(summary)
    if form not in forms:
        raise ValueError(f"form must be one of {', '.join([*forms, 'csv', 'json'])}, got {form!r}")
    return "\n\n".join(forms[form](table) for table in tables(summary)) or "No results yet."


def _plain(text: str) -> str:
    """Names come from logs: nothing in them may steer a terminal or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)


def _pieces(text: str, hyphens: bool) -> list[str]:
    return re.findall(r"[^\s-]*-+|[^\s-]+" if hyphens else r"\S+", text) or [""]


def _widths(columns: Sequence[Sequence[str]], names: int, room: int) -> list[int]:
    """Width of every column; the first `names` shrink, the widest first, until all fit or only whole words are left."""
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(len(piece) for cell in columns[i] for piece in _pieces(cell, i < names - 1))
        for i in range(names)
    ]
    while sum(widths) + 2 * (len(widths) - 1) > room and (
        able := [i for i in range(names) if widths[i] > least[i]]
    ):
        widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def to_text(table: Table, width: int = WIDTH) -> str:
    """Aligns a table for the terminal; names wrap where it would be wider than `width`, the last of them only at spaces."""
    first, names = int(table.grouped), table.names - int(table.grouped)
    cells = [[_plain(cell) for cell in row] for row in (table.head, *table.rows)]
    columns = list(zip(*[row[first:] for row in cells], strict=True))
    numbers = [all(cell.isdigit() for cell in column[1:]) for column in columns]
    widths = _widths(columns, names, width - 2 * first)

    def lines(row: Sequence[str]) -> list[str]:
        wrapped = [
            textwrap.wrap(cell, w, break_on_hyphens=i < names - 1, break_long_words=False) or [""]
            for i, (cell, w) in enumerate(zip(row[first:], widths, strict=True))
        ]
        parts = zip_longest(*wrapped, fillvalue="")
        padded = [
            [c.rjust(w) if n else c.ljust(w) for c, w, n in zip(p, widths, numbers, strict=True)]
            for p in parts
        ]
        return [(" " * 2 * first + "  ".join(part)).rstrip() for part in padded]

    out = [table.title, *textwrap.wrap(table.legend, width), "", *lines(cells[0])]
    for group, rows in groupby(cells[1:], key=lambda row: row[0] if first else None):
        out += ["", group] if group else []
        out += [line for row in rows for line in lines(row)]
    return "\n".join(
        [*out, *["" for _ in table.notes[:1] if first], *(_plain(note) for note in table.notes)]
    )


def to_markdown(table: Table) -> str:
    """Returns a pipe table; what Markdown or HTML would read as markup is escaped."""

    def escape(text: str) -> str:
        text = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", _plain(text))
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    rows = [
        table.head,
        ("---",) * len(table.head),
        *[tuple(map(escape, row)) for row in table.rows],
    ]
    lines = [
        f"### {table.title.capitalize()}",
        "",
        escape(table.legend),
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join([*lines, *(f"\n{escape(note)}" for note in table.notes)])


def to_latex(table: Table) -> str:
    """Returns a booktabs table; every special character is escaped, and a `[` cannot become an argument of the line end."""

    def escape(text: str) -> str:
        return "".join(_LATEX.get(c, c) for c in _plain(text))

    rows = [" & ".join(map(escape, row)) + r" \\" for row in (table.head, *table.rows)]
    columns = "l" * len(table.head)
    caption = rf"\caption{{{escape(table.title.capitalize())}. {escape(table.legend)}}}"
    lines = [
        r"\begin{table}",
        caption,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
    ]
    notes = [rf"\par\footnotesize {escape(note)}" for note in table.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"])


def to_json(summary: Summary) -> str:
    """Returns all rows, over seeds and of single scenes, with intervals and reasons; undefined is null, never NaN."""

    def row(r: Row) -> dict[str, Any]:
        metrics = {key: asdict(metric) for key, metric in r.metrics.items()}
        plain = {"settings": r.settings, "seeds": r.seeds, "scenes": r.scenes, "uses": r.uses}
        return {**plain, "counts": r.counts, "metrics": metrics}

    merged = {name: [row(r) for r in rows] for name, rows in summary.rows().items()}
    faults = {
        name: [{"path": p, "reason": why} for p, why in getattr(summary, name)]
        for name in ("failures", "damaged")
    }
    clean = json.loads(
        json.dumps({**merged, **faults}), parse_constant=str
    )  # a hyperparameter may be infinite
    return json.dumps(clean, indent=1, allow_nan=False)


def to_csv(summary: Summary) -> str:
    """Returns one line for every row and fault, told apart by the column `table`; undefined is empty."""
    lines: list[dict[str, Any]] = []
    for name, rows in summary.rows().items():
        for row in rows:
            line: dict[str, Any] = {
                "table": name,
                "seeds": " ".join(map(str, row.seeds)),
                "scenes": row.scenes,
                "uses": row.uses,
            }
            for part, config in row.settings.items():
                line |= {
                    f"{part}.{key}": short(value) if not isinstance(value, float) else value
                    for key, value in (config or {}).items()
                }
            line |= {f"n.{key}": count for key, count in row.counts.items()}
            for key, metric in row.metrics.items():
                low, high = metric.interval or (None, None)
                line |= {
                    key: metric.value,
                    f"{key}.low": low,
                    f"{key}.high": high,
                    f"{key}.reason": metric.reason,
                }
            lines.append(line)
    for name in ("failures", "damaged"):
        lines += [
            {"table": name, "path": path, "reason": why} for path, why in getattr(summary, name)
        ]
    out = io.StringIO()
    used = dict.fromkeys(
        key for line in lines for key, value in line.items() if value not in (None, "")
    )
    writer = csv.DictWriter(
        out, list(used) or ["table"], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")
