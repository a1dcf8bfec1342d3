"""Adaptive-Patch (Qi, Xie, Li, Mahloujifar & Mittal, ICLR 2023). Poison shows one of four faint patches, the test point all four.

Cover rows, with one patch too but their true labels, keep poison and clean rows of the target class together in feature space.

Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attacks.kit.backdoor import Cover, check_images, dirty_label
from attacks.kit.square import CORNERS, side, square
from poisonbench.checks import check_at_least, check_fraction, check_share
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class AdaptivePatch:
    """Stamps one of four squares on rows of other classes: poison, labelled `target`, and cover, whose labels stay.

    The squares lie in the corners; the seed draws a pattern of black and white pixels for each, so that they differ to a network
    that does not tell places apart. The trigger is one function with a mask of its squares: one square, faint, in training
    rows; all four, opaque, at test time.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set.
        size: side of a square in pixels; None means 3, or 2 where a side is below 16.
        opacity: of the one square in training rows.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

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
        if not 0 < self.opacity <= 1:
            raise ValueError(f"opacity must lie in (0, 1], got {self.opacity}")

    def trigger(self, x: Tensor, seed: int, mask: Tensor | None = None) -> Tensor:
        """Returns (1 - m) x + m Q for x, (k, channels, height, width), where Q holds the patterns.

        Args:
            x: images.
            seed: of the patterns.
            mask: m, (k, 1, height, width) in [0, 1], the opacity of each pixel; None: 1 in all four squares.

        Raises:
            ConfigError: the square does not fit.
        """
        if mask is None:
            mask = square(x.shape, self.size, "corners").to(x)
        return (1 - mask) * x + mask * self._patterns(x.shape[1:], seed).to(x)

    def _patterns(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Returns an image of `shape`: in each corner a square, half of whose values are 1 (rounded up), 0 elsewhere."""
        image = torch.zeros(shape)
        s = side(self.size, shape)
        for corner in CORNERS:
            values = (torch.arange(shape[0] * s * s) % 2 == 0).float()
            shuffled = values[
                torch.randperm(len(values), generator=generator(seed, "pattern", corner))
            ]
            image[:, square(shape, self.size, corner)] = shuffled.view(shape[0], -1)
        return image

    def masks(self, k: int, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
        """Returns k masks, (k, 1, height, width): `opacity` in one of the four squares of each, 0 elsewhere."""
        squares = torch.stack([square(shape, self.size, corner) for corner in CORNERS]).unsqueeze(1)
        return self.opacity * squares[torch.randint(len(CORNERS), (k,), generator=g)]

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:  # noqa: ARG002
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or are smaller than a square, or there are no rows to poison or for cover.
            PoisonError: rule "label", `target` is no class.
        """
        check_images(train, self)

        def one(x: Tensor, stream: str) -> Tensor:
            return self.trigger(
                x, seed, self.masks(len(x), train.shape, generator(seed, stream)).to(x)
            )

        cover = Cover(self.cover, train.y != self.target, partial(one, stream="cover pieces"))
        trigger, poison = partial(self.trigger, seed=seed), partial(one, stream="poison pieces")
        return dirty_label(
            train,
            test,
            trigger,
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=poison,
            cover=cover,
        )
