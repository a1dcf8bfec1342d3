"""What a run lacks: cells that failed, trainings that diverged, cells that are not there."""

from dataclasses import dataclass
from pathlib import Path

from experiments.evaluation.summary import Fault, Summary
from experiments.evaluation.views.failures import by_reason
from experiments.plan.cells import Cells, read_cells
from experiments.report.table import Table
from poisonbench.errors import ConfigError

DIVERGED = "diverged"  # how the reason of a training begins that did
MOST = 100  # missing cells of the table


@dataclass(frozen=True)
class Undone:
    """What there is no result of.

    Attributes:
        failed: cells that failed.
        diverged: of these, trainings that diverged.
        missing: cells of the plan of which there is nothing.
        planned: cells of the plan; None if that is not there.
        damaged: files that cannot be read.
        tables: that name them, with reasons.
    """

    failed: int
    diverged: int
    missing: int
    planned: int | None
    damaged: tuple[Fault, ...]
    tables: tuple[Table, ...]

    @property
    def nothing(self) -> bool:
        """Whether every cell is there, as far as one can tell."""
        return not (self.failed or self.missing or self.damaged)


def undone(folder: Path, summary: Summary) -> Undone:
    """Returns what the folder of a run lacks."""
    damaged = list(summary.damaged)
    cells = None
    try:
        cells = read_cells(folder)
    except ConfigError as error:
        damaged.append(Fault("cells.json", "; ".join(error.errors)))
    missing = [] if cells is None else _missing(cells, folder)
    planned = None if cells is None else sum(len(scene.cells) for scene in cells.scenes)
    diverged = [fault for fault in summary.failures if _diverged(fault)]
    tables = [_failures(summary), _missing_table(missing), _damage(damaged)]
    return Undone(
        failed=len(summary.failures),
        diverged=len(diverged),
        missing=len(missing),
        planned=planned,
        damaged=tuple(damaged),
        tables=tuple(table for table in tables if table.rows),
    )


def _diverged(fault: Fault) -> bool:
    return fault.reason.startswith(DIVERGED)


def _missing(cells: Cells, folder: Path) -> list[str]:
    """The files of the plan that are neither there nor stand for a failure."""
    root = folder / "scenes"
    there = {path.relative_to(root).as_posix() for path in root.glob("*/*.h5")}
    found = []
    for scene in cells.scenes:
        for cell in scene.cells:
            name = f"{scene.id}/{cell.file}"
            if name not in there and f"{scene.id}/failed-{cell.file}" not in there:
                found.append(name)
    return found


def _failures(summary: Summary) -> Table:
    body = []
    failed = by_reason((fault.path, fault.reason) for fault in summary.failures)
    for one in failed:
        what = "diverged" if one.reason.startswith(DIVERGED) else "failed"
        body.append((what, one.counted, one.reason))
    legend = (
        "Cells that failed, with the reason. Done again with: run ... --retry-failed."
    )
    return Table("FAILED", legend, ("what", "file", "reason"), body, 3)


def _missing_table(missing: list[str]) -> Table:
    body = [(name,) for name in missing[:MOST]]
    notes: tuple[str, ...] = ()
    if missing[MOST:]:
        notes = (f"{len(missing) - MOST} further ones are left out",)
    legend = (
        "Cells of the plan of which there is nothing: not done yet, or waiting for one that "
        "failed. Done by the same run again."
    )
    return Table("MISSING", legend, ("file",), body, 1, notes)


def _damage(damaged: list[Fault]) -> Table:
    body = [(fault.path, fault.reason) for fault in damaged]
    return Table("DAMAGED", "Files that cannot be read.", ("file", "reason"), body, 2)
