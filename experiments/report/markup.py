"""Tables in Markdown and LaTeX; whatever they would read as markup is escaped."""

import re
from collections.abc import Iterable, Sequence

from experiments.report.table import MISSING, Table, is_numeric
from experiments.report.text import printable

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # behind a line end it would be an argument of that
    "]": "{]}",
}
MINUS = re.compile(r"(?<!\S)-(?=\d)|(?<=\{\[\})-(?=\d)")
LATEX |= {c: f"\\{c}" for c in "&%$#_{}"}


def to_markdown(table: Table) -> str:
    """Returns a pipe table."""
    heading = table.heading.replace(table.title, table.title.capitalize(), 1)
    lines = [f"### {_markdown(heading)}", ""]
    lines += [f"- {_markdown(scene)}" for scene in table.several]
    if table.several:
        lines.append("")
    lines += [_markdown(table.legend), ""]
    lines.append(_pipes(table.head))
    lines.append(_pipes(["---"] * len(table.head)))
    for row in table.rows:
        escaped = [_markdown(cell) for cell in row]
        lines.append(_pipes(escaped))
    lines += [f"\n{_markdown(note)}" for note in table.notes]
    return "\n".join(lines)


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_latex(table: Table) -> str:
    """Returns a booktabs table: a short caption, a label, and the rest of the legend below."""
    told = "; ".join(table.scenes)
    measured = f" {_latex(told)}." if told else ""
    title = _latex(table.title.capitalize())
    first, stop, rest = table.legend.partition(". ")
    label = "-".join(table.title.lower().split())
    columns = list(zip(*table.rows, strict=True))
    numeric = [all(map(is_numeric, column)) for column in columns]
    numeric = numeric or [False] * len(table.head)
    below = [rest, *table.notes] if rest else table.notes
    lines = [
        r"\begin{table}",
        rf"\caption{{{title}.{measured} {_latex(first + stop.strip())}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{{_alignment(numeric)}}}",
        r"\toprule",
        _ampersands([_latex(head) for head in table.head]),
        r"\midrule",
        *[_ampersands(map(_latex_cell, row, numeric)) for row in table.rows],
        r"\bottomrule",
        r"\end{tabular}",
        *[rf"\par\footnotesize {_latex(note)}" for note in below],
        r"\end{table}",
    ]
    return "\n".join(lines)


def _alignment(numeric: Iterable[bool]) -> str:
    """The columns of a table: numbers are aligned at their right ends."""
    return "".join("r" if is_of_numbers else "l" for is_of_numbers in numeric)


def _latex_cell(text: str, is_of_numbers: bool) -> str:
    """A cell with a dash for what is missing, and minus signs in columns of numbers."""
    first, space, rest = text.partition(" ")
    if first in MISSING:
        return f"--{space}{_latex(rest)}"
    escaped = _latex(text)
    return MINUS.sub("$-$", escaped) if is_of_numbers else escaped


def _ampersands(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in printable(text))
