"""Warp, WaNet (Nguyen & Tran, ICLR 2021, arXiv 2102.10369). A smooth distortion of the image is the trigger: no pixel stands out.

Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.kit.backdoor import Cover, check_images, dirty_label
from poisonbench.checks import check_at_least, check_fraction, check_share
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe

LEAST = 28


@dataclass(frozen=True)
class Warp:
    """Warps rows of other classes, labelled `target`; cover rows, warped at random, keep their labels (noise mode).

    Without them the victim learns any distortion as the trigger. The paper draws them anew in every batch; poison of the data
    alone is drawn once. Images below 28x28 are refused: there a fraction of a pixel, which is what the field moves, changes the
    image beyond recognition or not at all, and a field of k x k is no smoother than the pixels.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set.
        grid: k, the field is drawn on k x k points and interpolated (bicubic).
        strength: s, scale of the field, in units of half a pixel on average.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

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
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"strength must be non-negative and finite, got {self.strength}")

    def field(self, shape: tuple[int, ...], seed: int) -> Tensor:
        """Returns (1, height, width, 2) float64: where each pixel is read, (right, down) in [-1, 1] from border to border."""
        height, width = shape[-2:]
        size = torch.tensor([width, height], dtype=torch.float64)
        control = (
            torch.rand(
                (1, 2, self.grid, self.grid), generator=generator(seed, "warp"), dtype=torch.float64
            )
            * 2
            - 1
        )
        control /= control.abs().mean()  # equation (4), psi
        flow = F.interpolate(
            control, size=(height, width), mode="bicubic", align_corners=True
        ).permute(0, 2, 3, 1)
        down, right = (
            torch.linspace(-1, 1, pixels, dtype=torch.float64) for pixels in (height, width)
        )
        identity = torch.stack(torch.meshgrid(right, down, indexing="xy"), -1)
        moved: Tensor = (identity + self.strength * flow / size).clamp(
            -1, 1
        )  # equation (6), phi: inside the image
        return moved

    def trigger(self, x: Tensor, seed: int, noise: Tensor | None = None) -> Tensor:
        """Returns the warped images, (k, channels, height, width), bilinear and in [0, 1].

        Args:
            x: images.
            seed: of the field.
            noise: (k, height, width, 2) in [-1, 1], further displacement of each pixel in half pixels; None for the trigger.
        """
        field = self.field(x.shape, seed).expand(len(x), -1, -1, -1)
        if noise is not None:
            field = (field + noise / torch.tensor([x.shape[-1], x.shape[-2]])).clamp(-1, 1)
        if not len(x):
            return x.clone()
        return F.grid_sample(x, field.to(x), padding_mode="border", align_corners=True).clamp(0, 1)

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:  # noqa: ARG002
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or smaller than 28x28, or there are no rows to poison or for cover.
            PoisonError: rule "label", `target` is no class.
        """
        check_images(train, self)
        height, width = train.shape[-2:]
        if min(height, width) < LEAST:
            why = f"a smooth warp of a fraction of a pixel needs images of {LEAST}x{LEAST} at least, got {height}x{width}"
            raise ConfigError(
                [f"Warp: {why}"],
                "choose mnist, fashion-mnist or cifar10, or another attack, such as blend",
            )

        def noisy(x: Tensor) -> Tensor:
            g = generator(seed, "noise mode")
            noise = torch.rand((len(x), height, width, 2), generator=g, dtype=torch.float64) * 2 - 1
            return self.trigger(x, seed, noise)

        cover = Cover(self.cover, train.y != self.target, noisy)
        trigger = partial(self.trigger, seed=seed)
        return dirty_label(
            train, test, trigger, target=self.target, budget=self.budget, seed=seed, cover=cover
        )
