"""Tables for the terminal: aligned columns, with names that wrap where a line would be too wide."""

import re
import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from experiments.report.table import Table

WIDTH = 110  # columns of the terminal
GAP = 2  # spaces between columns, and before the rows of a group
INDENT = "  "  # of the further lines of a cell


def printable(text: str) -> str:
    """Returns the text without what could steer a terminal: names come from logs."""
    return "".join(c if c.isprintable() else " " for c in text)


def to_text(table: Table, width: int = WIDTH) -> str:
    """Returns a table with aligned columns.

    Args:
        table: to write.
        width: of a line. Names wrap where it would be wider, the last of them only at spaces.
    """
    out = textwrap.wrap(printable(table.heading), width)
    for scene in table.several:
        out += textwrap.wrap(printable(scene), width, initial_indent=" " * GAP)
    out += textwrap.wrap(table.legend, width)
    out.append("")
    out += _grouped(table, width) if table.grouped else _plain(table, width)
    out += [printable(note) for note in table.notes]
    return "\n".join(out)


def _plain(table: Table, width: int) -> list[str]:
    """The lines of head and rows."""
    rows = _printable_rows(table)
    layout = _Layout(rows, table.names, width)
    lines = []
    for row in rows:
        lines += layout.lines(row)
    return lines


def _grouped(table: Table, width: int) -> list[str]:
    """The lines of head and rows, where the first column stands above its group."""
    rows = _printable_rows(table)
    others = [row[1:] for row in rows]
    layout = _Layout(others, table.names - 1, width - GAP)
    lines = _indented(layout, rows[0])
    group = ""
    for row in rows[1:]:
        if row[0] != group:
            group = row[0]
            lines.append("")
            lines += textwrap.wrap(
                group,
                width,
                subsequent_indent=2 * INDENT,
                break_on_hyphens=False,
                break_long_words=False,
            )
        lines += _indented(layout, row)
    if table.notes:
        lines.append("")
    return lines


def _printable_rows(table: Table) -> list[list[str]]:
    """Head and rows."""
    rows = [table.head, *table.rows]
    return [[printable(cell) for cell in row] for row in rows]


def _indented(layout: "_Layout", row: Sequence[str]) -> list[str]:
    """The lines of a row of a group, without its first column."""
    return [(" " * GAP + line).rstrip() for line in layout.lines(row[1:])]


class _Layout:
    """The columns of a table: their widths, and which hold numbers."""

    def __init__(self, rows: Sequence[Sequence[str]], names: int, room: int) -> None:
        columns = list(zip(*rows, strict=True))
        self.names = names
        self.numeric = [_is_numeric(column) for column in columns]
        self.widths = _widths(columns, names, room)

    def lines(self, row: Sequence[str]) -> list[str]:
        """Returns the lines of one row."""
        wrapped = []
        for index, cell in enumerate(row):
            at_hyphens = index < self.names - 1
            pieces = textwrap.wrap(
                cell,
                self.widths[index],
                subsequent_indent=INDENT,
                break_on_hyphens=at_hyphens,
                break_long_words=False,
            )
            wrapped.append(pieces or [""])
        return [self._line(pieces) for pieces in zip_longest(*wrapped, fillvalue="")]

    def _line(self, pieces: Sequence[str]) -> str:
        padded = []
        for piece, width, numeric in zip(
            pieces, self.widths, self.numeric, strict=True
        ):
            if numeric:
                padded.append(piece.rjust(width))
            else:
                padded.append(piece.ljust(width))
        return (" " * GAP).join(padded).rstrip()


def _is_numeric(column: Sequence[str]) -> bool:
    """Whether all cells below the head are whole numbers."""
    return all(cell.isdigit() for cell in column[1:])


def _widths(columns: Sequence[Sequence[str]], names: int, room: int) -> list[int]:
    """Width of every column.

    The first `names` shrink, the widest first, until all fit or only whole words are left.
    """
    widths = [max(map(len, column)) for column in columns]
    least = []
    for index in range(names):
        at_hyphens = index < names - 1
        whole_words = len(INDENT) + _longest_word(columns[index], at_hyphens)
        least.append(min(widths[index], whole_words))
    gaps = GAP * (len(widths) - 1)
    while sum(widths) + gaps > room:
        widest = -1
        for index in range(names):
            can_shrink = widths[index] > least[index]
            if can_shrink and (widest < 0 or widths[index] > widths[widest]):
                widest = index
        if widest < 0:
            break
        widths[widest] -= 1
    return widths


def _longest_word(column: Sequence[str], at_hyphens: bool) -> int:
    """The letters of the longest piece into which the cells can be broken."""
    pattern = r"[^\s-]*-+|[^\s-]+" if at_hyphens else r"\S+"
    longest = 0
    for cell in column:
        for word in re.findall(pattern, cell):
            longest = max(longest, len(word))
    return longest
