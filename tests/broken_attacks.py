"""Attacks that each break one rule of `poisonbench check attack`, named in the table at the end."""

import itertools
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from attacks import Patch
from poisonbench.contracts.attack_rules import count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.roles import POISON
from poisonbench.training import Recipe

CALLS = itertools.count()


class Plain:
    """No dataclass."""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return Patch()(train, test, recipe, seed)


@dataclass
class Mutable:
    """Not frozen.

    Attributes:
        budget: rows.
    """

    budget: float = 0.05

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return Patch(budget=self.budget)(train, test, recipe, seed)


@dataclass(frozen=True)
class Secretive(Patch):
    """target: budget: size: place: value: source:

    strength: a field that the repr leaves out.
    """

    strength: float = field(default=1.0, repr=False)


@dataclass(frozen=True)
class NotJson(Patch):
    """target: budget: size: place: value: source:

    shade: a field that no log can hold.
    """

    shade: complex = 1j


@dataclass(frozen=True, eq=False)
class Unequal(Patch):
    """target: budget: size: place: value: source:"""

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class Raises(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        raise KeyError("surrogate")


@dataclass(frozen=True)
class Undecided(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return super().__call__(train, test, recipe, seed + next(CALLS))


@dataclass(frozen=True)
class Seedless(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return super().__call__(train, test, recipe, 0)


@dataclass(frozen=True)
class Narrow(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        p = super().__call__(train, test, recipe, seed)
        return replace(p, train=p.train.to(dtype=torch.float32))


@dataclass(frozen=True)
class Fractions(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        assert train.x.dtype == torch.float32, "float32 only"
        return super().__call__(train, test, recipe, seed)


@dataclass(frozen=True)
class View(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        p = super().__call__(train, test, recipe, seed)
        nothing = p.role * 0
        return replace(p, train=train, role=nothing, origin=torch.arange(len(train)))


@dataclass(frozen=True)
class DriftsAtTest(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        p = super().__call__(train, test, recipe, seed)
        return replace(p, targets=p.targets.rows(p.targets.x * 0.9, p.targets.y))


@dataclass(frozen=True)
class DriftsInTraining(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        p = super().__call__(train, test, recipe, seed)
        p.train.x[p.role == POISON] *= 0.9
        return p


@dataclass(frozen=True)
class Overspends(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        more = (count(self.budget, len(train)) + 1) / len(train)
        return Patch(budget=more)(train, test, recipe, seed)


@dataclass(frozen=True)
class Unlimited:
    """Poisons as it likes."""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        return Patch()(train, test, recipe, seed)


@dataclass(frozen=True)
class Silent(Patch):
    extra: int = 0


@dataclass(frozen=True)
class Pointless(Patch):
    """target: budget: size: place: value: source:"""

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """The trigger is laid, the labels stay."""
        p = super().__call__(train, test, recipe, seed)
        return replace(p, train=p.train.relabel(train.y.clone()))


@dataclass(frozen=True)
class Everywhere(Patch):
    """target: budget: size: place: value: source:"""

    kinds: ClassVar[tuple[str, ...]] = ("image", "tokens")

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """The vocabulary is lost."""
        p = super().__call__(train, test, recipe, seed)
        targets = Dataset(p.targets.x, p.targets.y, p.targets.classes)
        return replace(p, targets=targets)


# what fails, and what is warned of
BROKEN: dict[type, tuple[set[str], set[str]]] = {
    Plain: ({"frozen"}, {"budget", "kinds"}),
    Mutable: ({"frozen"}, {"kinds"}),
    Secretive: ({"repr"}, set()),
    NotJson: ({"config", "grid"}, set()),
    Unequal: ({"value", "grid", "process"}, set()),
    Raises: ({"runs"}, set()),
    Undecided: ({"determinism"}, set()),
    Seedless: (set(), {"seed"}),
    Narrow: ({"float64"}, set()),
    Fractions: ({"float64"}, set()),
    View: ({"memory"}, {"seed"}),
    DriftsAtTest: ({"trigger"}, set()),
    DriftsInTraining: ({"trigger"}, set()),
    Overspends: ({"budget"}, set()),
    Unlimited: (set(), {"budget", "kinds"}),
    Everywhere: ({"kinds"}, set()),
    Silent: (set(), {"described"}),
    Pointless: (set(), set()),
}
