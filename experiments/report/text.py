"""Tables for the terminal: aligned columns, with names that wrap where a line would be too wide."""

import re
import textwrap
from collections.abc import Sequence
from itertools import groupby, zip_longest

from experiments.report.table import Table

WIDTH = 110  # columns of the terminal
GAP = 2  # spaces between columns, and before the rows of a group


def printable(text: str) -> str:
    """Returns the text without what could steer a terminal or break a line: names come from logs."""
    return "".join(c if c.isprintable() else " " for c in text)


def to_text(table: Table, width: int = WIDTH) -> str:
    """Returns a table with aligned columns.

    Args:
        table: to write.
        width: of a line. Names wrap where it would be wider, the last of them only at spaces.
    """
    cells = [[printable(cell) for cell in row] for row in (table.head, *table.rows)]
    heading = int(table.grouped)  # the first column stands above its group
    layout = _Layout([row[heading:] for row in cells], table.names - heading, width - GAP * heading)
    indent = " " * (GAP * heading)
    out = [table.title, *textwrap.wrap(table.legend, width), ""]
    out += [indent + line for line in layout.lines(cells[0][heading:])]
    for group, rows in groupby(cells[1:], key=lambda row: row[0] if heading else ""):
        if group:
            out += ["", group]
        for row in rows:
            out += [(indent + line).rstrip() for line in layout.lines(row[heading:])]
    if table.notes and heading:
        out.append("")
    out += [printable(note) for note in table.notes]
    return "\n".join(out)


class _Layout:
    """The columns of a table: their widths, and which hold numbers."""

    def __init__(self, rows: Sequence[Sequence[str]], names: int, room: int) -> None:
        columns = list(zip(*rows, strict=True))
        self.names = names
        self.numeric = [all(cell.isdigit() for cell in column[1:]) for column in columns]
        self.widths = _widths(columns, names, room)

    def lines(self, row: Sequence[str]) -> list[str]:
        """Returns the lines of one row."""
        wrapped = []
        for index, cell in enumerate(row):
            at_hyphens = index < self.names - 1
            pieces = textwrap.wrap(
                cell, self.widths[index], break_on_hyphens=at_hyphens, break_long_words=False
            )
            wrapped.append(pieces or [""])
        return [self._line(pieces) for pieces in zip_longest(*wrapped, fillvalue="")]

    def _line(self, pieces: Sequence[str]) -> str:
        padded = []
        for piece, width, numeric in zip(pieces, self.widths, self.numeric, strict=True):
            padded.append(piece.rjust(width) if numeric else piece.ljust(width))
        return (" " * GAP).join(padded).rstrip()


def _widths(columns: Sequence[Sequence[str]], names: int, room: int) -> list[int]:
    """Width of every column.

    The first `names` shrink, the widest first, until all fit or only whole words are left.
    """
    widths = [max(map(len, column)) for column in columns]
    least = []
    for index in range(names):
        at_hyphens = index < names - 1
        words = [word for cell in columns[index] for word in _words(cell, at_hyphens)]
        least.append(max(map(len, words), default=0))
    gaps = GAP * (len(widths) - 1)
    while sum(widths) + gaps > room:
        able = [index for index in range(names) if widths[index] > least[index]]
        if not able:
            break
        widest = max(able, key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _words(text: str, at_hyphens: bool) -> list[str]:
    """What a cell can be broken into."""
    return re.findall(r"[^\s-]*-+|[^\s-]+" if at_hyphens else r"\S+", text)
