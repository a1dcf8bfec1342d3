"""A legend below the panels of a figure, as wide as the figure, and the notes above it."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerBase
from matplotlib.text import Text

from experiments.report.pictures.look import plain

LETTER = 0.062  # inches of a letter of a legend
SIGN = 0.62  # inches of the sign before an entry, and of the gap behind it
LINE = 0.19  # inches of a line of a legend
MOST = 8  # names in a note


class _Written(HandlerBase):
    """Draws a sign that is a letter, each of the size of the text beside it."""

    def create_artists(
        self,
        legend: Legend,  # noqa: ARG002
        orig_handle: Artist,
        xdescent: float,
        ydescent: float,
        width: float,
        height: float,  # noqa: ARG002
        fontsize: float,
        trans: Any,
    ) -> Sequence[Artist]:
        assert isinstance(orig_handle, Text)
        sign = Text(width / 2 - xdescent, -ydescent, orig_handle.get_text())
        sign.set(ha="center", fontsize=fontsize, fontweight="bold")
        sign.set_transform(trans)
        return [sign]


def columns_of(handles: Sequence[Artist], width: float) -> int:
    """Returns in how many columns the entries of a legend fit into a width in inches."""
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    return max(1, min(len(handles), int(width / (SIGN + LETTER * longest))))


def wrapped(text: str, width: float) -> str:
    """Returns a text as a figure shows it, its lines no longer than a width in inches."""
    letters = max(20, int(width / LETTER))
    lines: list[str] = []
    for line in text.splitlines():
        lines += textwrap.wrap(plain(line), letters, break_on_hyphens=False)
    return "\n".join(lines)


def first_of(told: Sequence[str]) -> str:
    """Returns some names in a line; of many the first, and how many more there are."""
    more = len(told) - MOST
    if more > 1:
        return f"{', '.join(told[:MOST])}, and {more} more"
    return ", ".join(told)


def legend_height(handles: Sequence[Artist], width: float, note: str = "") -> float:
    """Returns how many inches `legend_below` takes in a figure of that width."""
    lines = math.ceil(len(handles) / columns_of(handles, width))
    noted = len(wrapped(note, width).splitlines())
    return LINE * (lines + noted) + 0.25


def legend_below(figure: Figure, handles: Sequence[Artist], note: str = "") -> None:
    """Puts a legend below the panels, with a note of what is left out above it.

    An entry whose sign is a letter is a `Text` with a label.
    """
    if not handles and not note:
        return
    width = figure.get_figwidth()
    figure.legend(
        handles=list(handles),
        handler_map={Text: _Written()},
        loc="outside lower center",
        ncols=columns_of(handles, width),
        fontsize=8,
        frameon=False,
        title=wrapped(note, width) or None,
        title_fontsize=8,
    )
