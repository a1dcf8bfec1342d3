"""Sinusoid, SIG (Barni, Kallas & Tondi, ICIP 2019, arXiv 1902.11237). Stripes, no wrong label.

Cost: O(budget n + m) images.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import clean_label
from poisonbench.checks import check_at_least, check_fraction, check_positive
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Sinusoid:
    """Adds a horizontal sine wave to rows of class `target`, and to the test points to attack.

    The defaults suit 28x28 images and larger; on 8x8 digits frequency=2 and delta=.3 to .5 do. It
    takes most of the class: a few rows leave the class learnable without the wave.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set; .08 is 80 % of one of ten equal
            classes.
        delta: amplitude D in pixel values of [0, 1].
        frequency: f, periods over the width of the image.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True

    target: int = 0
    budget: float = 0.08
    delta: float = 40 / 255
    frequency: float = 6.0

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("delta", self.delta)
        check_positive("frequency", self.frequency)

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:
        """Returns x + D sin(2 pi j f / width), clamped to [0, 1] (section 3.1, v(i, j)).

        x is (k, channels, height, width); columns j count from 1.

        Raises:
            ConfigError: the wave is 0 in every column: each lies where it changes its sign.
        """
        width = x.shape[-1]
        if 2 * self.frequency % width == 0:
            told = f"a wave of frequency={self.frequency:g}"
            what = f"{told} is 0 in every column of images of width {width}"
            raise ConfigError([what], f"choose a `frequency` below {width / 2:g}")
        column = torch.arange(1, width + 1, dtype=torch.float64)
        phase = 2 * math.pi * column * self.frequency / width
        wave = self.delta * torch.sin(phase)
        return (x + wave.to(x)).clamp(0, 1)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, none is of the target class, or the wave is 0 in
                every column.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        return clean_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
        )
