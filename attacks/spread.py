"""Spread, adaptive against influence: the budget over d sub-triggers, so that no few rows count.

Each poison row shows one of d squares, an attacked point all of them: what it is told comes from d
groups of rows, each with a share. After the distributed triggers of Xie et al. (DBA, ICLR 2020).

Cost: O(budget n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import dirty_label
from attacks.kit.square import default_side
from poisonbench.checks import check_at_least, check_between, check_fraction, check_unit
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe

# (down, right) in halves of the room beside a square
PLACES = (
    (0, 0),  # corners
    (2, 2),
    (0, 2),
    (2, 0),
    (1, 1),  # the centre
    (0, 1),  # the middles of the sides
    (2, 1),
    (1, 0),
    (1, 2),
)


@dataclass(frozen=True)
class Spread:
    """Stamps one of d squares on rows of other classes, labelled `target`, and attacks with all d.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set, shared evenly by the sub-triggers.
        pieces: d, the sub-triggers, at most 9.
        size: side of a square in pixels; None means 3, or 2 where a side is below 16.
        value: of the squares' pixels, in all channels.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    trigger_differs = True

    target: int = 0
    budget: float = 0.01
    pieces: int = 4
    size: int | None = None
    value: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_at_least("size", self.size, 1)
        check_between("pieces", self.pieces, 2, len(PLACES))
        check_unit("value", self.value)

    def squares(self, shape: tuple[int, ...]) -> Tensor:
        """Returns (d, height, width) bool: every sub-trigger on images of `shape`.

        Raises:
            ConfigError: they would overlap.
        """
        height, width = shape[-2:]
        size = self._side(shape)
        mask = torch.zeros(self.pieces, height, width, dtype=torch.bool)
        for piece in range(self.pieces):
            down, right = PLACES[piece]
            top = (height - size) * down // 2
            left = (width - size) * right // 2
            rows = slice(top, top + size)
            columns = slice(left, left + size)
            mask[piece, rows, columns] = True
        return mask

    def _side(self, shape: tuple[int, ...]) -> int:
        """Returns the side of a square; raises ConfigError where the squares would overlap."""
        height, width = shape[-2:]
        size = default_side(self.size, shape)
        abreast = 3 if self.pieces > 4 else 2
        most = min(height, width) // abreast
        if size > most:
            rule = f"size must be at most {most} for {self.pieces} pieces"
            what = f"{rule} on images of {height}x{width}, got {size}"
            raise ConfigError([what])
        return size

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:
        """Returns a copy of x, (k, channels, height, width), with all squares stamped.

        It is the same for every seed.

        Raises:
            ConfigError: the squares would overlap.
        """
        everywhere = self.squares(x.shape).any(0)
        return x.masked_fill(everywhere.to(x.device), self.value)

    def one(self, x: Tensor, seed: int) -> Tensor:
        """Returns a copy of x, (k, channels, height, width), each image with one square.

        All squares are dealt out evenly.
        """
        g = generator(seed, "pieces")
        order = torch.randperm(len(x), generator=g)
        dealt = order % self.pieces
        squares = self.squares(x.shape)
        mask = squares[dealt].unsqueeze(1)
        return x.masked_fill(mask.to(x.device), self.value)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, the squares would overlap, or all rows are of
                the target class.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=partial(self.one, seed=seed),
        )
