"""Where the measurements run, and on which data."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from experiments.bench.problem import images
from experiments.bench.timing import machine
from experiments.gpu.record import Found
from poisonbench.data import Dataset

ROWS = 50_000
POINTS = 10_000
FEW = 32  # rows of a small setting
SIDE = 8  # of its pictures


@dataclass(frozen=True, eq=False)
class Setting:
    """A device, and data that are read where they are asked for.

    Attributes:
        device: where all runs.
        small: sizes that a CPU does in seconds.
        folder: of the records.
        logs: of grids.
    """

    device: torch.device
    small: bool
    folder: Path
    logs: Path

    @cached_property
    def _data(self) -> tuple[Dataset, Dataset, str]:
        """CIFAR-10 where it is on disk, or noise of its shape; and which of both."""
        if self.small:
            train, test, source = images(FEW, FEW)
            train = _corner(train)
            test = _corner(test)
        else:
            train, test, source = images(ROWS, POINTS)
        return train.to(self.device), test.to(self.device), source

    @property
    def train(self) -> Dataset:
        """The training set, on the device."""
        return self._data[0]

    @property
    def test(self) -> Dataset:
        """The test set, on the device."""
        return self._data[1]

    @property
    def about(self) -> Found:
        """The machine, the versions and the date."""
        return {
            "machine": machine(self.device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "small": self.small,
        }

    @property
    def source(self) -> str:
        """Where the data are from."""
        return self._data[2]

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
