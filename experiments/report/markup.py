"""Tables in Markdown and LaTeX; whatever they would read as markup is escaped."""

import re
from collections.abc import Sequence

from experiments.report.table import Table
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
    """Returns a booktabs table."""
    told = "; ".join(table.scenes)
    measured = f" {_latex(told)}." if told else ""
    title = _latex(table.title.capitalize())
    caption = f"{title}.{measured} {_latex(table.legend)}"
    lines = [
        r"\begin{table}",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{'l' * len(table.head)}}}",
        r"\toprule",
        _ampersands(table.head),
        r"\midrule",
        *[_ampersands(row) for row in table.rows],
        r"\bottomrule",
        r"\end{tabular}",
        *[rf"\par\footnotesize {_latex(note)}" for note in table.notes],
        r"\end{table}",
    ]
    return "\n".join(lines)


def _ampersands(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in printable(text))
