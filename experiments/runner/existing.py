"""The cells of a grid whose files are there: which are damaged, and which are of other versions
or of another processor.

Cost: the head of every file that the index of the folder does not know. Needs no torch.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.plan.cells import Cells, seconds_of
from experiments.plan.kinds import STAGES
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import index


@dataclass(frozen=True)
class Existing:
    """What lies in a folder already.

    Attributes:
        damaged: an error for each file that is no log of its kind.
        others: a line for each pair of versions, and each processor, other than those here, that
            made some of the logs.
        seconds: of each cell that is done, by its file.
    """

    damaged: tuple[LogError, ...]
    others: tuple[str, ...]
    seconds: dict[Path, float]


def existing_cells(cells: Cells, folder: Path) -> Existing:
    """Looks at the files of a grid's cells that are there, failures aside."""
    damaged = []
    attributes = []
    seconds = {}
    with index.opened(folder / "scenes") as known:
        for path in _files(cells, folder):
            try:
                record = known.find(path)
                if record is None:
                    kind = STAGES.get(path.stem.partition("-")[0])
                    record = log.read(path, kind, keys=())
                attributes.append(record.attributes)
                seconds[path] = seconds_of(record.attributes)
            except LogError as error:
                damaged.append(error)
    versions = _others(log.versions_of(attributes), "by", log.versions_here())
    processors = _others(log.processors_of(attributes), "on", log.processor())
    return Existing(tuple(damaged), (*versions, *processors), seconds)


def _files(cells: Cells, folder: Path) -> Iterator[Path]:
    for scene in cells.scenes:
        place = folder / "scenes" / scene.id
        for cell in scene.cells:
            path = place / cell.file
            if path.exists():
                yield path


def _others(counts: Counter[str], by: str, here: str) -> Iterator[str]:
    """Yields a line for whatever made cells and is not here."""
    for words, count in counts.items():
        if words != here:
            cells = "1 cell was" if count == 1 else f"{count} cells were"
            yield f"{cells} made {by} {words}; here is {here}"
