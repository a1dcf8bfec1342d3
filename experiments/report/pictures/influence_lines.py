"""Sentences and vectors as lines of a picture: a test point above its training instances."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.figure import Figure

from experiments.report.explanation.instances import Instances
from experiments.report.pictures.influence_block import PLAIN, ROLES, Block
from experiments.report.text import printable

LETTERS = 118  # of a line
MOST_LINES = 3  # of an instance
WIDTH = 10.5  # inches
HEIGHT = 0.19  # inches of a line
SIZE = 9  # points
# right edge of the first column and left edges of the others, as shares of the width
VALUE = 0.075
LABEL = 0.09
WORD = 0.15
TEXT = 0.225


@dataclass(frozen=True)
class Line:
    """A line of the picture; every part but the heading stands in a column of its own."""

    heading: str = ""
    value: str = ""
    label: str = ""
    word: str = ""
    text: str = ""
    colour: str = "0.25"


def lines_figure(blocks: Sequence[Block], train: Instances) -> Figure:
    """Writes test points, and below each its training instances with influence and label.

    What is longer than three lines is cut, with a mark. Poison is red.
    """
    lines: list[Line] = []
    for block in blocks:
        if lines:
            lines.append(Line())
        lines += _lines_of(block, train)
    height = HEIGHT * (len(lines) + 1)
    figure = Figure(figsize=(WIDTH, height))
    for place, line in enumerate(lines):
        _write(figure, 1 - HEIGHT * (place + 1) / height, line)
    return figure


def _lines_of(block: Block, train: Instances) -> Iterator[Line]:
    """The lines of a block."""
    yield Line(heading=block.title)
    seen = f"true {block.true}, predicted {block.predicted}"
    if block.true < 0:
        seen = f"predicted {block.predicted}"
    point = Line(label=seen, colour="black")
    yield from _with_text(point, train.at(block.x))
    for place, row in enumerate(block.rows):
        word, colour, _ = ROLES.get(int(block.roles[place]), PLAIN)
        line = Line(
            value=f"{block.values[place]:+.3g}",
            label=f"label {int(train.y[row])}",
            word=word,
            colour=colour if word else Line.colour,
        )
        yield from _with_text(line, train.at(train.x[row]))


def _with_text(line: Line, text: str) -> Iterator[Line]:
    """The line with an instance in words, and what of it stands in the lines below."""
    wrapped = textwrap.wrap(
        printable(text),
        LETTERS,
        max_lines=MOST_LINES,
        placeholder=" …",
        break_on_hyphens=False,
    )
    for place, part in enumerate(wrapped or [""]):
        literal = part.replace("$", r"\$")  # no formula
        if place:
            yield Line(text=literal, colour=line.colour)
        else:
            yield replace(line, text=literal)


def _write(figure: Figure, y: float, line: Line) -> None:
    figure.text(0.01, y, line.heading, fontsize=SIZE + 1.5)
    style: dict[str, Any] = {"fontsize": SIZE, "color": line.colour}
    figure.text(VALUE, y, line.value, ha="right", **style)
    figure.text(LABEL, y, line.label, **style)
    figure.text(WORD, y, line.word, fontweight="bold", **style)
    figure.text(TEXT, y, line.text, **style)
