"""Failures of one reason together, with a count: twenty cells that fail alike are told once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NAMED = 3  # cells of a reason that are named


@dataclass(frozen=True)
class Failure:
    """Cells that failed for one reason.

    Attributes:
        reason: in one line.
        cells: at least one.
    """

    reason: str
    cells: tuple[str, ...]

    @property
    def named(self) -> str:
        """The first cells by name, and how many more there are."""
        told = ", ".join(self.cells[:NAMED])
        more = len(self.cells) - NAMED
        return f"{told} and {more} more" if more > 0 else told

    @property
    def counted(self) -> str:
        """The same, with the count in front where there are several."""
        count = len(self.cells)
        return self.named if count == 1 else f"{count} files: {self.named}"


def by_reason(failed: Iterable[tuple[str, str]]) -> list[Failure]:
    """Returns the reasons in the order in which they come.

    Args:
        failed: of each cell its name, and the reason.
    """
    found: dict[str, list[str]] = {}
    for cell, reason in failed:
        found.setdefault(" ".join(reason.split()), []).append(cell)
    return [Failure(reason, tuple(cells)) for reason, cells in found.items()]


def failure_lines(failed: Sequence[str]) -> list[str]:
    """Returns the lines that tell of "cell: reason": two for a reason of several cells."""
    pairs = []
    for told in failed:
        cell, _, reason = told.partition(": ")
        pairs.append((cell, reason))
    lines = []
    for failure in by_reason(pairs):
        count = len(failure.cells)
        if count == 1:
            lines.append(f"failed: {failure.named}: {failure.reason}")
        else:
            lines.append(f"failed: {count} cells: {failure.reason}")
            lines.append(f"  {failure.named}")
    return lines
