"""A table before it is rendered, and how the numbers in it are written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evaluation.metrics import Metric, alike, merged

NUMBER = re.compile(r"<?[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?%?")
MISSING = ("", "-")
SECONDS = "s"  # a format: three digits, nothing below a millisecond, no exponent
LEAST_SECONDS = 0.001
MANY_SECONDS = 1000


@dataclass(frozen=True)
class Table:
    """What the readable formats share.

    Attributes:
        title: one or two words, in capitals.
        legend: what the columns mean.
        head: the columns.
        rows: their cells.
        names: the first columns, which hold names and may wrap.
        notes: below the table.
        grouped: the first column heads groups of rows.
        scenes: what the rows were measured on, a line for each data set and model.
    """

    title: str
    legend: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    names: int
    notes: tuple[str, ...] = ()
    grouped: bool = False
    scenes: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The title, with what the rows were measured on where that is one thing."""
        if len(self.scenes) == 1:
            return f"{self.title}: {self.scenes[0]}"
        return self.title

    @property
    def several(self) -> tuple[str, ...]:
        """What the rows were measured on, where that is several things."""
        return self.scenes if len(self.scenes) > 1 else ()


class Cells:
    """Writes metrics as cells, and numbers the reasons why they are undefined."""

    def __init__(self) -> None:
        self._reasons: dict[str, list[str]] = {}  # those under one number

    def row(self, *metrics: Metric, form: str = ".3f") -> list[str]:
        """Returns a cell for each metric of a row; a reason is marked once in a row.

        Args:
            metrics: what to write.
            form: the format of the values, and of the ends of their intervals.
        """
        marked = {""}  # reasons that are alike count as one
        cells = []
        for metric in metrics:
            text = "-" if metric.value is None else written(metric.value, form)
            text += ends_of(metric, form)
            reason = alike(metric.reason)
            if reason not in marked:
                text += f" ({self._number(metric.reason)})"
                marked.add(reason)
            cells.append(text)
        return cells

    def _number(self, reason: str) -> int:
        """The number of a reason and of those alike, the next one if it is new."""
        key = alike(reason)
        self._reasons.setdefault(key, []).append(reason)
        return list(self._reasons).index(key) + 1

    def notes(self) -> tuple[str, ...]:
        """Returns the reasons under their numbers."""
        lines = []
        for number, reasons in enumerate(self._reasons.values(), start=1):
            [reason] = merged(reasons)
            lines.append(f"({number}) {reason}")
        return tuple(lines)


def ends_of(metric: Metric, form: str = ".3f") -> str:
    """Returns the interval of a metric as it stands behind its value; empty if it has none.

    Args:
        metric: with or without an interval.
        form: the format of the value: a value inside its interval is so when both are rounded.
    """
    if not metric.interval:
        return ""
    low, high = metric.interval
    return f" [{written(low, form)}, {written(high, form)}]"


def written(value: float, form: str) -> str:
    """Returns a number in a format, or as `SECONDS` are written."""
    if form != SECONDS:
        return f"{value:{form}}"
    if 0 < value < LEAST_SECONDS:
        return f"<{LEAST_SECONDS}"
    if value >= MANY_SECONDS:
        return f"{value:.0f}"
    return f"{value:.3g}"


def is_numeric(text: str) -> bool:
    """Returns whether a cell is missing, or a number with at most something in brackets behind."""
    first, _, rest = text.partition(" ")
    if first in MISSING:
        return True
    return NUMBER.fullmatch(first) is not None and rest[:1] in ("", "[", "(")
