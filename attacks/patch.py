"""Patch, BadNets (Gu, Dolan-Gavitt & Garg, 2017, arXiv 1708.06733). A small bright square teaches the victim the target label.

Cost: O(budget n + m) images.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from attacks._backdoor import check_images, dirty_label
from attacks._common import check_at_least, check_choice, check_fraction
from poisonbench.contracts import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.training import Recipe

Place = Literal["top-left", "top-right", "bottom-left", "bottom-right", "centre"]


@dataclass(frozen=True)
class Patch:
    """Stamps a square on rows of other classes, labels them `target`, and stamps the test points to attack.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        size: side s of the square in pixels; None means 3, or 2 where the images have a side below 16.
        place: corner, flush with the border, or centre.
        value: of the square's pixels, in all channels.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    target: int = 0
    budget: float = 0.01
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_at_least("size", self.size, 1)
        check_choice("place", self.place, get_args(Place))
        if not 0 <= self.value <= 1:
            raise ValueError(f"value must lie in [0, 1], got {self.value}")

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:  # noqa: ARG002 - one signature for all triggers
        """Returns a copy of x, (k, channels, height, width), with the square stamped; it is the same for every seed.

        Raises:
            ConfigError: the square does not fit.
        """
        height, width = x.shape[-2:]
        size = self.size or (2 if min(height, width) < 16 else 3)
        if size > min(height, width):
            raise ConfigError([f"size must be at most {min(height, width)} on images of {height}x{width}, got {size}"])
        down, right = height - size, width - size
        top, left = {
            "top-left": (0, 0),
            "top-right": (0, right),
            "bottom-left": (down, 0),
            "bottom-right": (down, right),
            "centre": (down // 2, right // 2),
        }[self.place]
        stamped = x.clone()
        stamped[..., top : top + size, left : left + size] = self.value
        return stamped

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:  # noqa: ARG002
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or are smaller than the square, or all are of the target class.
            PoisonError: rule "label", `target` is no class.
        """
        check_images(train, self)
        return dirty_label(train, test, self.trigger, target=self.target, budget=self.budget, seed=seed)
