"""An attack outside the tree, named `toy_attack:Invert` in a grid.

Inverted images of other classes, labelled as the target.
"""

from dataclasses import dataclass, field

import torch

from poisonbench.contracts.attack_rules import count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.roles import CLEAN, POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Invert:
    target: int = 0
    budget: float = 0.05

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        others = (train.y != self.target).nonzero().squeeze(1)
        order = torch.randperm(len(others), generator=generator(seed, "rows"))
        rows = others[order[: count(self.budget, len(train))]]
        x, y = train.x.clone(), train.y.clone()
        x[rows], y[rows] = 1 - x[rows], self.target
        role = torch.full((len(train),), CLEAN, dtype=torch.uint8)
        role[rows] = POISON
        points = (test.y != self.target).nonzero().squeeze(1)
        return Poisoned(
            train=Dataset(x, y, train.classes),
            role=role,
            origin=torch.arange(len(train)),
            targets=Dataset(1 - test.x[points], test.y[points], test.classes),
            wanted=torch.full((len(points),), self.target),
            target_origin=points,
        )


@dataclass(frozen=True)
class Raises(Invert):
    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        raise RuntimeError("this attack always breaks")


@dataclass(frozen=True)
class Dies(Invert):
    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        import os

        os._exit(9)


@dataclass(frozen=True)
class Hangs(Invert):
    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        import time

        time.sleep(600)
        raise AssertionError


@dataclass(frozen=True)
class OverBudget(Invert):
    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return Invert(self.target, min(0.9, 2 * self.budget))(train, test, recipe, seed)


@dataclass(frozen=True)
class Unhashable(Invert):
    colours: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Unreadable(Invert):
    colour: "NoSuchType" = None  # noqa: F821


@dataclass(frozen=True)
class Unsettable(Invert):
    image: torch.Tensor | None = None


@dataclass(frozen=True)
class Asserts(Invert):
    def __post_init__(self) -> None:
        assert self.target == 1, "only one"


@dataclass(frozen=True)
class Breaks(Invert):
    """Fails as a GPU whose kernel found an assertion wrong; so does what this process does later.

    Attributes:
        first: whether it is the one that fails by itself.
    """

    first: bool = False

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        if self.first:
            broken.append(seed)
        if broken:
            told = "CUDA error: device-side assert triggered\nadvice of many lines"
            raise torch.AcceleratorError(told)
        return super().__call__(train, test, recipe, seed)


broken: list[int] = []  # seeds of the attacks of this process that failed so
