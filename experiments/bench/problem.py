"""Models, data and checkpoints on which the gradient engine is timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset, load
from poisonbench.errors import DataError
from poisonbench.models.pictures import Classifier, GlobalMean, Normalize
from poisonbench.seeding import generator

CHECKPOINTS = 3


class Block(nn.Module):
    """A residual block without normalisation."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, c, h, w) to (B, c', h / stride, w / stride)."""
        inside = self.second(F.relu(self.first(x)))
        out: Tensor = F.relu(self.skip(x) + 0.3 * inside)
        return out


def conv3() -> Classifier:
    """Three convolutions, 94,538 parameters."""
    layers: list[nn.Module] = [Normalize()]
    for inside, outside in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return Classifier(nn.Sequential(*layers, GlobalMean()), nn.Linear(128, 10))


def resnet() -> Classifier:
    """A norm-free ResNet, 336,826 parameters."""
    blocks = [Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Block(64, 112, 2)]
    return Classifier(
        nn.Sequential(
            Normalize(),
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            *blocks,
            GlobalMean(),
        ),
        nn.Linear(112, 10),
    )


MODELS: dict[str, Callable[[], Classifier]] = {"conv3": conv3, "resnet": resnet}


@dataclass(frozen=True, eq=False)
class Problem:
    """K models and the data; every checkpoint weighs 1."""

    models: list[Classifier]
    train: Dataset
    test: Dataset

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.models[0].parameters())


def images(n: int, m: int) -> tuple[Dataset, Dataset, str]:
    """Returns n training and m test images, and where they are from.

    CIFAR-10 where it is on disk, else noise of its shape.
    """
    try:
        train, test = load("cifar10")
        return train.take(torch.arange(n)), test.take(torch.arange(m)), "CIFAR-10"
    except DataError:
        g = generator(0, "noise")
        return _noise(n, g), _noise(m, g), "noise of CIFAR-10's shape"


def _noise(rows: int, draws: torch.Generator) -> Dataset:
    x = torch.rand((rows, 3, 32, 32), generator=draws)
    y = torch.randint(10, (rows,), generator=draws)
    return Dataset(x, y, 10)


def problem(name: str, n: int, m: int, device: torch.device) -> tuple[Problem, str]:
    """Returns the problem and where its images are from."""
    train, test, source = images(n, m)
    models = []
    with torch.random.fork_rng():
        for k in range(CHECKPOINTS):
            torch.manual_seed(k)
            models.append(MODELS[name]().to(device).eval())
    return Problem(models, train.to(device), test.to(device)), source
