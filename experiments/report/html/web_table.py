"""A table as the page shows it: every cell with its place in the order of its column."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evaluation.names import natural
from experiments.report.table import MISSING, Table, is_numeric

MOST_CHOICES = 40  # different names of a column that are offered as a list


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        value: the number, or the whole text.
        rest: what follows the number: its interval, the mark of a note.
        place: in the ascending order of its column; None for a missing value, which comes last.
    """

    value: str
    rest: str
    place: int | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        head: its name.
        is_number: whether its cells are numbers, or missing.
        choices: different texts of a column of names that are few; otherwise none.
    """

    head: str
    is_number: bool
    choices: tuple[str, ...]


@dataclass(frozen=True)
class WebTable:
    """A table of the page; texts are those of the `Table` that it is made of.

    Attributes:
        title: as a heading.
        scenes: what the rows were measured on, a line for each data set and model.
        legend: what the columns mean.
        columns: with their heads.
        rows: of cells.
        notes: below the table.
    """

    title: str
    scenes: tuple[str, ...]
    legend: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]


def web_table(table: Table) -> WebTable:
    """Returns a table with the order of its cells."""
    texts = [[row[index] for row in table.rows] for index in range(len(table.head))]
    columns = []
    cells = []
    for index, head in enumerate(table.head):
        column = _column(head, texts[index], index < table.names)
        columns.append(column)
        cells.append(_cells(texts[index], column.is_number))
    rows = tuple(zip(*cells, strict=True))
    return WebTable(
        title=table.title.capitalize(),
        scenes=table.scenes,
        legend=table.legend,
        columns=tuple(columns),
        rows=rows,
        notes=tuple(table.notes),
    )


def _column(head: str, texts: Sequence[str], is_name: bool) -> Column:
    is_number = all(is_numeric(text) for text in texts)
    different = sorted(set(texts), key=natural)
    is_list = is_name and not is_number and len(different) <= MOST_CHOICES
    choices = tuple(different) if is_list else ()
    return Column(head, is_number, choices)


def _cells(texts: Sequence[str], is_number: bool) -> list[Cell]:
    places = _places(texts, is_number)
    cells = []
    for text in texts:
        value = text
        rest = ""
        if is_number:
            value, _, rest = text.partition(" ")
        cells.append(Cell(value, rest, places.get(text)))
    return cells


def _places(texts: Sequence[str], is_number: bool) -> dict[str, int]:
    """The place of every text that is not missing; equal numbers share one."""
    present = {text for text in texts if text.split(" ", 1)[0] not in MISSING}
    if not is_number:
        ordered = sorted(present, key=natural)
        return {text: place for place, text in enumerate(ordered)}
    values = {text: _number(text) for text in present}
    different = sorted(set(values.values()))
    place_of = {value: place for place, value in enumerate(different)}
    return {text: place_of[value] for text, value in values.items()}


def _number(text: str) -> float:
    return float(text.split(" ", 1)[0].strip("<%"))
