"""A table before it is rendered."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evaluation.metrics import Metric


@dataclass(frozen=True)
class Table:
    """What the readable formats share. The first `names` columns may wrap; if `grouped`, the first heads groups of rows."""

    title: str
    legend: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    names: int
    notes: tuple[str, ...] = ()
    grouped: bool = False


class Cells:
    """Formats metrics and numbers the reasons why they, or a part of them, are undefined: once in each row."""

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}

    def __call__(self, *metrics: Metric, form: str = ".3f", ends: str = ".2f") -> list[str]:
        """Returns a cell for each metric of a row; `form` writes the values, `ends` the ends of the intervals."""
        marked: set[str] = {""}
        cells = []
        for metric in metrics:
            bounds = [
                f"{end:{ends}}".removeprefix("0").replace("1.00", "1.0")
                for end in metric.interval or ()
            ]
            value = "-" if metric.value is None else f"{metric.value:{form}}"
            number = (
                self.reasons.setdefault(metric.reason, len(self.reasons) + 1)
                if metric.reason
                else 0
            )
            cells.append(
                value
                + f" [{', '.join(bounds)}]" * bool(bounds)
                + f" ({number})" * (metric.reason not in marked)
            )
            marked.add(metric.reason)
        return cells

    def notes(self) -> tuple[str, ...]:
        """The reasons under their numbers."""
        return tuple(f"({number}) {reason}" for reason, number in self.reasons.items())
