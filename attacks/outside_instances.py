"""Outside instances: rows of another data set, of one class there, inserted under one label.

The victim learns a second task beside its own, and predictions of it rest on these rows alone. The
first experiment of Hammoudeh & Lowd (CCS 2022, arXiv 2201.10055) inserts 150 MNIST images into two
classes of CIFAR-10: rows that are learned early have small gradients, so that estimates of
influence that are not renormalised do not rank them high. No attack in itself, but a case whose
most influential rows are known.

Cost: reading the other data set, a hash of both where they are of one shape, and O(budget n + m)
images.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.kit.rows import check_class, no_rows, rows_of
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.budget import count
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import DATASETS, KIND_OF, Dataset, join, load
from poisonbench.data.dataset import among
from poisonbench.errors import ConfigError
from poisonbench.roles import CLEAN, POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe

PICTURES = tuple(name for name in DATASETS if KIND_OF[name] == "image")


@dataclass(frozen=True)
class OutsideInstances:
    """Inserts pictures of another data set, labelled `target`, and asks for more of these.

    Smaller pictures are padded with zeros on all sides, grey ones get equal channels. The other
    data set is read from $POISONBENCH_DATA. An outside picture has no true label among the classes
    of the data: attacked points bear the one after `target`, so that they are wanted as another.

    Attributes:
        dataset: name of the built-in data set that the pictures come from.
        outside: their class there.
        target: the label that they get.
        budget: inserted rows as a fraction of the training set.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    dataset: str = "mnist"
    outside: int = 0
    target: int = 0
    budget: float = 0.015

    def __post_init__(self) -> None:
        check_choice("dataset", self.dataset, PICTURES)
        check_at_least("outside", self.outside, 0)
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`; the n rows that it has stay as they are, before the new ones.

        Raises:
            ConfigError: data of another kind, or pictures that do not fit into theirs or are their
                own.
            DataError: the other data set is not there.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        check_class("target", self.target, train.classes)
        other, points = load(self.dataset)
        check_class("outside", self.outside, other.classes)
        eligible = rows_of(other.y == self.outside)
        self._check_other(other.take(eligible), train)
        g = generator(seed, "poison rows")
        order = torch.randperm(len(eligible), generator=g)
        most = count(self.budget, len(train))
        rows = eligible[order[:most]]
        new = self._labelled(train, other.x[rows], self.target)

        shown = points.x[points.y == self.outside]
        true_label = (self.target + 1) % train.classes
        targets = self._labelled(test, shown, true_label)
        role = [_full(train, CLEAN), _full(new, POISON)]
        old = torch.arange(len(train))
        nowhere = torch.full((len(new),), -1)
        return Poisoned(
            train=join([train, new]),
            role=torch.cat(role),
            origin=torch.cat([old, nowhere]),
            targets=targets,
            wanted=torch.full_like(targets.y, self.target),
            target_origin=torch.full_like(targets.y, -1),
        )

    def _check_other(self, pictures: Dataset, train: Dataset) -> None:
        """Refuses pictures of the data themselves: neither poison nor attacked points in truth."""
        if pictures.shape != train.shape:
            return
        own = int(among(pictures, train).sum())
        if own:
            theirs = f"pictures of class {self.outside} of {self.dataset!r}"
            what = f"{own} {theirs} are rows of the training set"
            raise ConfigError([what], "choose a `dataset` that is not that of the grid")

    def _labelled(self, like: Dataset, x: Tensor, label: int) -> Dataset:
        """Pictures of the other data set as instances of `like`, all with one label."""
        fitting = fitted(x, like.shape).to(like.x)
        y = no_rows(like).new_full((len(x),), label)
        return like.rows(fitting, y)


def _full(data: Dataset, role: int) -> Tensor:
    return torch.full((len(data),), role, dtype=torch.uint8)


def fitted(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns pictures (k, c, h, w) in another shape (C, H, W), in the middle of zeros.

    Raises:
        ConfigError: h or w is larger than H or W, or c is neither C nor 1.
    """
    channels, height, width = shape
    down = height - x.shape[2]
    right = width - x.shape[3]
    if down < 0 or right < 0 or x.shape[1] not in (1, channels):
        have = "x".join(str(size) for size in x.shape[1:])
        want = "x".join(str(size) for size in shape)
        what = f"pictures of {have} do not fit into those of the data, {want}"
        raise ConfigError([what], "choose a data set of smaller or of grey pictures")
    left = right // 2
    above = down // 2
    around = (left, right - left, above, down - above)
    coloured = x.expand(-1, channels, -1, -1)
    return F.pad(coloured, around)
