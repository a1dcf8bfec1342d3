"""Warp, WaNet (Nguyen & Tran, ICLR 2021, arXiv 2102.10369). A smooth distortion is the trigger.

No pixel stands out. Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.kit.backdoor import Cover, dirty_label
from poisonbench.checks import (
    check_at_least,
    check_fraction,
    check_not_negative,
    check_share,
)
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe

LEAST = 28


@dataclass(frozen=True)
class Warp:
    """Warps rows of other classes, labelled `target`; cover rows are warped at random.

    These keep their labels. Without such cover (the paper's noise mode) the victim learns any
    distortion as the trigger. The paper draws it anew in every batch; poison of the data alone is
    drawn once. Images below 28x28 are refused: there a fraction of a pixel, which is what the field
    moves, changes the image beyond recognition or not at all, and a field of k x k is no smoother
    than the pixels.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set.
        grid: k, the field is drawn on k x k points and interpolated (bicubic).
        strength: s, scale of the field, in units of half a pixel on average.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    target: int = 0
    budget: float = 0.1
    cover: float = 0.2
    grid: int = 4
    strength: float = 0.5

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_share("cover", self.cover)
        check_at_least("grid", self.grid, 2)
        check_not_negative("strength", self.strength)

    def field(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Returns (1, height, width, 2) float64: where each pixel is read, inside the image.

        The last axis is (right, down) in [-1, 1] from border to border. This is equation (6), phi.
        """
        height, width = shape[-2:]
        control = self._control(seed)
        flow = F.interpolate(
            control,
            size=(height, width),
            mode="bicubic",
            align_corners=True,
        )
        right = torch.linspace(-1, 1, width, dtype=torch.float64)
        down = torch.linspace(-1, 1, height, dtype=torch.float64)
        grids = torch.meshgrid(right, down, indexing="xy")
        identity = torch.stack(grids, -1)
        size = torch.tensor([width, height], dtype=torch.float64)
        away = flow.permute(0, 2, 3, 1)
        moved: Tensor = identity + self.strength * away / size
        return moved.clamp(-1, 1)

    def _control(self, seed: int) -> Tensor:
        """Returns the control points, (1, 2, k, k) float64, of mean size 1: equation (4), psi."""
        shape = (1, 2, self.grid, self.grid)
        g = generator(seed, "warp")
        uniform = torch.rand(shape, generator=g, dtype=torch.float64)
        control = uniform * 2 - 1
        return control / control.abs().mean()

    def trigger(self, x: Tensor, seed: int, noise: Tensor | None = None) -> Tensor:
        """Returns the warped images, (k, channels, height, width), bilinear and in [0, 1].

        Args:
            x: images.
            seed: of the field.
            noise: (k, height, width, 2) in [-1, 1], further displacement of each pixel in half
                pixels; None for the trigger.
        """
        if not len(x):
            return x.clone()
        height, width = x.shape[-2:]
        one = self.field(x.shape, seed)
        field = one.expand(len(x), -1, -1, -1)
        if noise is not None:
            size = torch.tensor([width, height])
            moved = field + noise / size
            field = moved.clamp(-1, 1)
        read = F.grid_sample(
            x,
            field.to(x),
            padding_mode="border",
            align_corners=True,
        )
        return read.clamp(0, 1)

    def _noisy(self, x: Tensor, seed: int) -> Tensor:
        """Returns the rows x, (k, *shape), warped by the field and by noise of their own."""
        height, width = x.shape[-2:]
        shape = (len(x), height, width, 2)
        g = generator(seed, "noise mode")
        uniform = torch.rand(shape, generator=g, dtype=torch.float64)
        return self.trigger(x, seed, uniform * 2 - 1)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than 28x28, or there are no rows to
                poison or for cover.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        height, width = train.shape[-2:]
        if min(height, width) < LEAST:
            needs = f"needs images of {LEAST}x{LEAST} at least, got {height}x{width}"
            what = f"Warp: a smooth warp of a fraction of a pixel {needs}"
            way_out = "choose mnist, fashion-mnist or cifar10, or another attack, such as blend"
            raise ConfigError([what], way_out)
        cover = Cover(
            share=self.cover,
            eligible=train.y != self.target,
            trigger=partial(self._noisy, seed=seed),
        )
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            cover=cover,
        )
