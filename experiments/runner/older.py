"""Cells of older code: what lies in a run's folder under its grid's names, of other code or data.

They are kept beside the new ones: nothing of a run is ever deleted. Cost: the head of every file
that is not a cell of the grid. Needs no torch.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.plan.cells import Cells, key_of
from experiments.plan.identity import marks_of
from experiments.plan.kinds import STAGES, TRACE
from poisonbench import log
from poisonbench.errors import LogError


def older_cells(cells: Cells, folder: Path) -> list[str]:
    """Returns a line for each name of which cells of older code or data lie in a folder.

    Args:
        cells: of the grid.
        folder: of the run.
    """
    planned = {cell.key: cell.marks for scene in cells.scenes for cell in scene.cells}
    counts: Counter[str] = Counter()
    for record in _others(cells, folder):
        marks = planned.get(key_of(record.kind, record.config))
        if marks is None:
            continue
        name = changed_names(marks_of(record.config), marks)
        if name:  # else a copy of one of its cells
            counts[name] += 1
    return [_line(name, count) for name, count in counts.items()]


def _others(cells: Cells, folder: Path) -> Iterator[log.Record]:
    """The heads of the logs in a folder that are no cells of its grid."""
    scenes = folder / "scenes"
    planned = {
        scenes / scene.id / cell.file for scene in cells.scenes for cell in scene.cells
    }
    for path in sorted(scenes.glob("*/*.h5")):
        kind = STAGES.get(path.stem.partition("-")[0], "")
        if path in planned or kind in ("", TRACE.name, "failure"):
            continue
        try:
            yield log.read(path, kind, keys=())
        except LogError:  # told by those who read it
            continue


def changed_names(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Returns the names behind which two configurations differ, see `marks_of`."""
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return " and ".join(changed)


def _line(name: str, count: int) -> str:
    if count == 1:
        return f"1 cell of {name} is of older code or data: kept beside"
    return f"{count} cells of {name} are of older code or data: kept beside"
