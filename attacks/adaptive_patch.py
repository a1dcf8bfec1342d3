"""Adaptive-Patch (Qi, Xie, Li, Mahloujifar & Mittal, ICLR 2023). Poison shows part of the trigger.

It shows one of four faint patches, the test point all four. Cover rows, with one patch too but
their true labels, keep poison and clean rows of the target class together in feature space. The
paper has two opaque squares at test time, opacities of .5, .2, .5 and .3 in training, and .3 % of
poison with .6 % of cover.

Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import Cover, dirty_label
from attacks.kit.square import CORNERS, Place, side, square
from poisonbench.checks import check_at_least, check_fraction, check_part, check_share
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class AdaptivePatch:
    """Stamps one of four squares on rows of other classes: poison, labelled `target`, and cover.

    Cover rows keep their labels. The squares lie in the corners; the seed draws a pattern of black
    and white pixels for each, so that they differ to a network that does not tell places apart. The
    trigger is one function with a mask of its squares: one square, faint, in training rows; all
    four, opaque, at test time.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set.
        size: side of a square in pixels; None means 3, or 2 where a side is below 16.
        opacity: of the one square in training rows.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    trigger_differs = True

    target: int = 0
    budget: float = 0.01
    cover: float = 0.01
    size: int | None = None
    opacity: float = 0.5

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_share("cover", self.cover)
        check_at_least("size", self.size, 1)
        check_part("opacity", self.opacity)

    def trigger(self, x: Tensor, seed: int, mask: Tensor | None = None) -> Tensor:
        """Returns (1 - m) x + m Q for x, (k, channels, height, width), where Q holds the patterns.

        Args:
            x: images.
            seed: of the patterns.
            mask: m, (k, 1, height, width) in [0, 1], the opacity of each pixel; None: 1 in all four
                squares.

        Raises:
            ConfigError: the square does not fit.
        """
        if mask is None:
            corners = square(x.shape, self.size, "corners")
            mask = corners.to(x)
        shape = tuple(x.shape[1:])
        patterns = self._patterns(shape, seed).to(x)
        return (1 - mask) * x + mask * patterns

    def _patterns(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Returns an image of `shape` with a pattern in each corner, 0 elsewhere."""
        image = torch.zeros(shape)
        for corner in CORNERS:
            place = square(shape, self.size, corner)
            image[:, place] = self._pattern(shape, corner, seed)
        return image

    def _pattern(self, shape: tuple[int, ...], corner: Place, seed: int) -> Tensor:
        """Returns (channels, s x s): half of the values, rounded up, are 1, in random order."""
        channels = shape[0]
        total = channels * side(self.size, shape) ** 2
        even = torch.arange(total) % 2 == 0
        values = even.float()
        g = generator(seed, "pattern", corner)
        order = torch.randperm(total, generator=g)
        return values[order].view(channels, -1)

    def masks(self, k: int, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
        """Returns k masks, (k, 1, height, width): `opacity` in one square of each, 0 elsewhere."""
        squares = [square(shape, self.size, corner) for corner in CORNERS]
        drawn = torch.randint(len(CORNERS), (k,), generator=g)
        chosen = torch.stack(squares)[drawn]
        return self.opacity * chosen.unsqueeze(1)

    def _shown(self, x: Tensor, seed: int, stream: str) -> Tensor:
        """Returns the rows x, (k, *shape), each with a square that the seed's stream draws."""
        shape = tuple(x.shape[1:])
        masks = self.masks(len(x), shape, generator(seed, stream))
        return self.trigger(x, seed, masks.to(x))

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than a square, or there are no
                rows to poison or for cover.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        cover = Cover(
            share=self.cover,
            eligible=train.y != self.target,
            trigger=partial(self._shown, seed=seed, stream="cover pieces"),
        )
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=partial(self._shown, seed=seed, stream="poison pieces"),
            cover=cover,
        )
