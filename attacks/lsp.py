"""LSP, linearly separable perturbations (Yu et al., KDD 2022, arXiv 2111.00898).

Each class gets a pattern; the patterns separate the classes linearly. The victim learns them first,
in place of the images, which it then cannot tell at test time.

Cost: O(budget n) images.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.kit.rows import draw, every_row, poison_in_place
from attacks.kit.square import SMALL
from poisonbench.checks import (
    check_at_least,
    check_not_negative,
    check_part,
    check_positive,
)
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class LSP:
    """Adds to every row a coarse pattern of its class and a little noise; attacks no point.

    Attributes:
        budget: perturbed rows as a fraction of the training set, up to 1, the default.
        strength: root mean square of a pattern, in pixel values of [0, 1]; the paper's norm of 6 on
            32x32 colour images is .11.
        patch: side in pixels of the squares of one value of which a pattern is made; None means 8,
            or 2 on sides below 16.
        noise: standard deviation of the rows around their class's pattern, as a fraction of
            `strength`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True

    budget: float = 1.0
    strength: float = 0.11
    patch: int | None = None
    noise: float = 0.1

    def __post_init__(self) -> None:
        check_part("budget", self.budget)
        check_positive("strength", self.strength)
        check_at_least("patch", self.patch, 1)
        check_not_negative("noise", self.noise)

    def patterns(
        self,
        shape: tuple[int, ...],
        y: Tensor,
        classes: int,
        seed: int,
    ) -> Tensor:
        """Returns the perturbations of rows with labels y, (k,), of `shape`: (k, *shape) float32.

        The root mean square of each is `strength`.

        Raises:
            ConfigError: there are not as many patterns as classes.
        """
        channels, height, width = shape
        side = self._side(height, width)
        down = math.ceil(height / side)
        across = math.ceil(width / side)
        size = channels * down * across
        if 2**size < classes:
            what = f"{size} squares make no {classes} patterns"
            raise ConfigError([what], f"choose a `patch` below {side}")
        g = generator(seed, "lsp")
        codes = _corners(size, classes, g)
        own = codes[y.cpu()]
        around = torch.randn((len(y), size), generator=g)
        low = own + self.noise * around
        coarse = low.view(-1, channels, down, across)
        fine = F.interpolate(coarse, scale_factor=side, mode="nearest")
        fine = fine[..., :height, :width]
        power = fine.square().flatten(1).mean(1)
        scale = self.strength / power.sqrt()
        return fine * scale.view(-1, 1, 1, 1)

    def _side(self, height: int, width: int) -> int:
        if self.patch is not None:
            return self.patch
        if min(height, width) < SMALL:
            return 2
        return 8

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, or too small for as many patterns as classes.
        """
        check_kind(train, self)
        rows = draw(every_row(train), self.budget, seed)
        y = train.y[rows]
        added = self.patterns(train.shape, y, train.classes, seed)
        x = train.x[rows] + added.to(train.x)
        return poison_in_place(train, test, rows=rows, x=x.clamp(0, 1))


def _corners(size: int, classes: int, g: torch.Generator) -> Tensor:
    """Returns (classes, size) float32 of -1 and 1: a corner of a hypercube per class, none twice.

    This is the generator of section 4.1.
    """
    codes: list[list[int]] = []
    while len(codes) < classes:
        bits = torch.randint(2, (size,), generator=g)
        code = (2 * bits - 1).tolist()
        if code not in codes:
            codes.append(code)
    return torch.tensor(codes, dtype=torch.float32)
