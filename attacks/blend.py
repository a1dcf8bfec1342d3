"""Blend (Chen, Liu, Li, Lu & Song, 2017, arXiv 1712.05526). A noise image is mixed into the poison.

No pixel stands out. Vectors get normal noise. Cost: O(budget n + m) instances.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.backdoor import dirty_label, mix, noise_image, noise_vector
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Blend:
    """Mixes noise into rows of other classes, labels them `target`, and attacks with it.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        alpha: a, the weight of the noise.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram", "vector")

    target: int = 0
    budget: float = 0.05
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("alpha", self.alpha)

    def trigger(self, x: Tensor, seed: int) -> Tensor:
        """Returns (1 - a) x + a R for x, (k, *shape).

        R is noise, the same for equal seeds and shapes (section 4.1, blended injection): uniform
        in [0, 1] for images and spectrograms, which stay there, normal for vectors.
        """
        if x.dim() != 4:
            return torch.lerp(x, noise_vector(x, seed), self.alpha)
        return mix(x, noise_image(x, seed), self.alpha)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are sentences, or all are of the target class.
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
        )
