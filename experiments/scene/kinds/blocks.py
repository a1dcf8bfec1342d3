"""The scores of a training set, whole or in blocks of its rows.

A block is a file in the scratch folder of its stage: a run that is killed loses the block at work.
When all are there the matrix is put together from them. Memory: that of the scorer for a block, the
scores of a block, and the matrix itself. How many rows a block has depends on no machine, so that
equal configurations give equal bits.
"""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.spec import Method
from experiments.scene.cost import Cost, measured, noted
from experiments.scene.kinds.cell import Cell, check_shape
from poisonbench import log
from poisonbench.contracts.protocols import RowScorer
from poisonbench.errors import LogError
from poisonbench.log import names
from poisonbench.log.record import canonical
from poisonbench.notes import attach, collecting, note
from poisonbench.training.trace import Trace

LEAST = 8192  # rows of a block
MULTIPLE = 1024  # of which the rows of a block are one, as passes through a model are parts of it
KIND = "block"
NOTE = "note_"


@dataclass(frozen=True, eq=False)
class Scored:
    """The influence of a training set on the probe.

    Attributes:
        influence: (m, n) float32 on the CPU.
        fit: what the upfront part cost.
        score: what scoring cost: seconds in all, the largest peak of memory.
        about: attributes of the log that tell of the blocks; none where it is scored whole.
    """

    influence: Tensor
    fit: Cost
    score: Cost
    about: dict[str, float] = field(default_factory=dict)


def influence_of(cell: Cell, method: Method, trace: Trace) -> Scored:
    """Scores a training set for the probe: in blocks if it is large and the estimator can.

    Args:
        cell: of the stage.
        method: its estimator.
        trace: the victim's, with the scratch folder of the stage.
    """
    test = cell.victim.test
    n = len(trace.train)
    size = rows_of_block(len(test))
    scorer = None
    with measured(cell.device) as fit:
        if n > size and hasattr(method.value, "fit_rows"):
            scorer = method.value.fit_rows(trace)
        if scorer is None:
            whole = method.value.fit(trace)
    if scorer is not None:
        blocks = Blocks(cell, method, n, size)
        return blocks.scored(scorer, fit)
    with measured(cell.device, after=fit) as score:
        influence = whole(test)
    check_shape(method, "influence", influence, (len(test), n), "(m, n)")
    influence = influence.to(device="cpu", dtype=torch.float32)
    return Scored(influence, fit, score)


def rows_of_block(m: int) -> int:
    """Returns the rows of a block.

    At least twice the m test points, whose gradients are taken anew for every block.
    """
    rows = max(LEAST, 2 * m)
    return -(-rows // MULTIPLE) * MULTIPLE


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of a stage.

    Attributes:
        cell: of the stage.
        method: its estimator.
        n: training rows.
        size: rows of a block.
    """

    cell: Cell
    method: Method
    n: int
    size: int

    def scored(self, scorer: RowScorer, fit: Cost) -> Scored:
        """Scores the blocks whose file is not there, and puts the matrix together."""
        for rows in self._all():
            if self._read(rows) is None:
                self._make(rows, scorer)
        m = len(self.cell.victim.test)
        influence = torch.empty(m, self.n)
        total = Cost(0.0, 0)
        for rows in self._all():
            record = self._read(rows)
            if record is None:
                way = "leave the folder alone while a run works in it"
                raise LogError(self._path(rows), "was written, and is gone again", way)
            part = torch.as_tensor(record.data[names.INFLUENCE])
            influence[:, rows.start : rows.stop] = part
            _tell(record)
            total.seconds += float(record.attributes["seconds"])
            peak = int(record.attributes["peak_bytes"])
            total.peak_bytes = max(total.peak_bytes, peak)
        item = influence.element_size()
        about: dict[str, float] = {
            "block_rows": self.size,
            "block_bytes": m * self.size * item,
        }
        return Scored(influence, fit, total, about)

    def _all(self) -> Iterator[range]:
        for first in range(0, self.n, self.size):
            yield range(first, min(first + self.size, self.n))

    def _path(self, rows: range) -> Path:
        return self.cell.scratch / f"rows-{rows.start}-{rows.stop}.h5"

    def _config(self) -> dict[str, str]:
        """A digest of all that a block depends on, beside its rows, which its name tells."""
        causes = {
            "scene": self.cell.scene.config,
            **self.cell.stage.config,
            "device": str(self.cell.device),
            "threads": torch.get_num_threads(),
            "versions": log.versions_here(),
            "processor": log.processor(),
        }
        return {"digest": hashlib.sha256(canonical(causes).encode()).hexdigest()}

    def _read(self, rows: range) -> log.Record | None:
        """The block of some rows; None where it is absent, damaged, or made by other means."""
        try:
            record = log.read(self._path(rows), KIND)
        except LogError:  # it can be made again
            return None
        if record.config != self._config():
            return None
        return record

    def _make(self, rows: range, scorer: RowScorer) -> None:
        cell = self.cell
        test = cell.victim.test
        with noted() as texts, collecting() as told, measured(cell.device) as cost:
            scores = scorer(test, rows)
        want = (len(test), len(rows))
        check_shape(self.method, "influence", scores, want, "(m, rows)")
        scores = scores.to(device="cpu", dtype=torch.float32)
        cell.untouched.check()
        attributes = {
            **{f"{NOTE}{name}": value for name, value in told.figures.items()},
            "seconds": cost.seconds,
            "peak_bytes": cost.peak_bytes,
            "warnings": "\n".join(texts),
        }
        log.write(
            self._path(rows),
            KIND,
            config=self._config(),
            data={**told.arrays, names.INFLUENCE: scores},
            attributes=attributes,
        )


def _tell(record: log.Record) -> None:
    """Tells again, for the log of the stage, what a block noted and warned of."""
    for name, value in record.attributes.items():
        if name.startswith(NOTE):
            note(name.removeprefix(NOTE), value)
    for name, array in record.data.items():
        if name != names.INFLUENCE:
            attach(name, torch.as_tensor(array))
    for text in str(record.attributes["warnings"]).splitlines():
        warnings.warn(text, stacklevel=2)
