"""Training the victim again: its recipe and seed, on a part of its rows or on other data."""

import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.spec import Method
from experiments.scene.archive import pack_trace, unpack_trace
from poisonbench import log
from poisonbench.contracts.values import Means
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record
from poisonbench.notes import collecting
from poisonbench.poison_file import fingerprint
from poisonbench.training import train
from poisonbench.training.trace import Trace


class Retrainer:
    """Trains the victim anew, unless that run lies in the folder.

    Attributes:
        seconds_found: what the runs that it found there had taken, each counted once: a stage costs
            the same whichever of those that share a run comes first.
    """

    def __init__(self, trace: Trace, folder: Path) -> None:
        self.trace = trace
        self.folder = folder
        self.seconds_found = 0.0
        self._asked: set[Path] = set()

    def on_rows(self, keep: Tensor) -> Trace:
        """Returns the run of the victim's recipe and seed on the rows `keep`, (n,) bool.

        Raises:
            ValueError: `keep` is not of that form, or keeps no row.
        """
        keep = keep.cpu()
        rows = self.trace.train
        form = keep.dtype == torch.bool and tuple(keep.shape) == (len(rows),)
        if not form or not bool(keep.any()):
            want = f"({len(rows)},) bool with a row that stays"
            raise ValueError(
                f"keep must be {want}, got {tuple(keep.shape)} {keep.dtype}"
            )
        return self.on(rows.take(keep))

    def on(self, data: Dataset) -> Trace:
        """Returns the run of the victim's recipe and seed on `data`.

        Raises:
            ValueError: its instances are not of the form of the training set.
        """
        _check_layout(data, self.trace.train)
        data = data.to(self.trace.train.x.device)
        path = self.folder / f"run-{fingerprint(data)[:16]}.h5"
        found = _read(path)
        if found is None:
            start = time.perf_counter()
            trace = train(data, self.trace.by_recipe, self.trace.seed)
            seconds = time.perf_counter() - start
            _write(path, trace, seconds)
        else:
            trace = unpack_trace(found, data, self.trace.by_recipe, self.trace.seed)
            if path not in self._asked:
                self.seconds_found += float(found.attributes["seconds"])
        self._asked.add(path)
        return replace(trace, train=data)


def _check_layout(data: Dataset, like: Dataset) -> None:
    if data.layout != like.layout:
        told = f"got {data.layout}"
        raise ValueError(f"the victim trains on data {like.layout}, {told}")


def _read(path: Path) -> Record | None:
    """Returns the log of a run; None where it is absent or damaged: it can be made again."""
    try:
        return log.read(path, "trace")
    except LogError:
        return None


def _write(path: Path, trace: Trace, seconds: float) -> None:
    log.write(
        path,
        "trace",
        config={"rows": len(trace.train)},
        data=pack_trace(trace),
        attributes={"seconds": seconds},
    )


def means_of(retrainer: Retrainer, estimator: Method | None) -> Means:
    """Returns the means of a defense that trains again: training, and the stage's estimator.

    What the estimator tells of its calls stays out of the log, which is of another stage.
    """

    def influence(trace: Trace, points: Dataset) -> Tensor:
        assert estimator is not None
        with collecting():
            scores: Tensor = estimator.value.fit(trace)(points)
        return scores

    return Means(
        retrain=retrainer.on_rows,
        influence=influence if estimator is not None else None,
        train=retrainer.on,
    )
