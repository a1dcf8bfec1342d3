"""Where the measurements run, and on which data."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.bench.problem import images
from experiments.bench.timing import machine
from experiments.gpu.record import Found
from poisonbench.data import Dataset

ROWS = 50_000
SIDE = 8  # of the pictures of a small setting
POINTS = 10_000


@dataclass(frozen=True, eq=False)
class Setting:
    """A device and data that lie there.

    Attributes:
        device: where all runs.
        train: CIFAR-10's training set, or noise of its shape.
        test: its test set.
        source: which of both.
        small: sizes that a CPU does in seconds.
        folder: of the records.
        logs: of grids.
    """

    device: torch.device
    train: Dataset
    test: Dataset
    source: str
    small: bool
    folder: Path
    logs: Path

    @staticmethod
    def of(
        device: str, data_root: Path | None, small: bool, folder: Path, logs: Path
    ) -> "Setting":
        """Loads the data and sends them to the device."""
        if data_root is not None:
            os.environ["POISONBENCH_DATA"] = str(data_root)
        rows = ROWS
        points = POINTS
        if small:
            rows = 32
            points = 20
        train, test, source = images(rows, points)
        if small:
            train = _corner(train)
            test = _corner(test)
        where = torch.device(device)
        return Setting(
            device=where,
            train=train.to(where),
            test=test.to(where),
            source=source,
            small=small,
            folder=folder,
            logs=logs,
        )

    @property
    def about(self) -> Found:
        """The machine, the versions, the date and the data."""
        return {
            "machine": machine(self.device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "data": self.source,
            "small": self.small,
        }

    def model(self, name: str) -> str:
        """Returns the model of a measurement: the small one of a small setting."""
        if self.small:
            return "cnn"
        return name

    def rows(self, count: int) -> Dataset:
        """Returns the first training instances: `count`, or all there are of a small setting."""
        return self.train.take(torch.arange(min(count, len(self.train))))

    def points(self, count: int) -> Dataset:
        """Returns the first test instances."""
        return self.test.take(torch.arange(min(count, len(self.test))))


def _corner(data: Dataset) -> Dataset:
    """Returns pictures of the upper left corners."""
    return data.rows(data.x[:, :, :SIDE, :SIDE].contiguous(), data.y)
