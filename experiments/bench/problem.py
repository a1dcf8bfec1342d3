"""Models, data and checkpoints on which the gradient engine is timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import PAD, Dataset, load
from poisonbench.errors import DataError
from poisonbench.gradients import plan
from poisonbench.models import build
from poisonbench.models.pictures import Classifier, GlobalMean, Normalize
from poisonbench.seeding import generator

CHECKPOINTS = 3
SENTENCES = ("text-cnn", "transformer")
VOCABULARY = 10_000  # of random sentences


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

    models: list[nn.Module]
    train: Dataset
    test: Dataset

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.models[0].parameters())

    @property
    def held(self) -> int:
        """Number of entries that an instance's gradient is held by: of a table, those looked up."""
        return plan(self.models[0], "all", self.train.x).held


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


def sentences(n: int, m: int) -> tuple[Dataset, Dataset, str]:
    """Returns n training and m test sentences, and where they are from.

    SST-2 where it is on disk, else random words, a third of the places.
    """
    try:
        train, test = load("sst2")
        return train.take(torch.arange(n)), test.take(torch.arange(m)), "SST-2"
    except DataError:
        g = generator(0, "words")
        return _words(n, g), _words(m, g), "random words"


def _words(rows: int, draws: torch.Generator) -> Dataset:
    x = torch.randint(2, VOCABULARY, (rows, 64), generator=draws)
    length = torch.randint(4, 40, (rows, 1), generator=draws)
    absent = torch.arange(64) >= length
    y = torch.randint(2, (rows,), generator=draws)
    words = tuple(str(k) for k in range(VOCABULARY))
    return Dataset(x.masked_fill(absent, PAD), y, 2, vocabulary=words)


def problem(
    name: str,
    n: int,
    m: int,
    device: torch.device,
    checkpoints: int = CHECKPOINTS,
) -> tuple[Problem, str]:
    """Returns the problem and where its instances are from."""
    if name in SENTENCES:
        train, test, source = sentences(n, m)
    else:
        train, test, source = images(n, m)
    return posed(name, train.to(device), test.to(device), checkpoints), source


def posed(
    name: str, train: Dataset, test: Dataset, checkpoints: int = CHECKPOINTS
) -> Problem:
    """Returns the problem of a model on given instances, where they lie."""
    models = []
    for k in range(checkpoints):
        model = _model(name, train, k)
        models.append(model.to(train.x.device).eval())
    return Problem(models, train, test)


def _model(name: str, data: Dataset, seed: int) -> nn.Module:
    if name not in MODELS:
        return build(name, data.layout, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODELS[name]()
