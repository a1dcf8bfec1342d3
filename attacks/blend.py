"""Blend (Chen, Liu, Li, Lu & Song, 2017, arXiv 1712.05526). Mixes one noise image into the poison, so that no pixel stands out.

Cost: O(budget n + m) images.
"""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from attacks.kit.backdoor import check_images, dirty_label, mix, noise_image
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Blend:
    """Mixes a noise image into rows of other classes, labels them `target`, and mixes it into the test points to attack.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        alpha: a, the weight of the noise image.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    target: int = 0
    budget: float = 0.05
    alpha: float = 0.2

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("alpha", self.alpha)

    def trigger(self, x: Tensor, seed: int) -> Tensor:
        """Returns (1 - a) x + a R for x, (k, *shape), in [0, 1]; R is uniform noise, the same for equal seeds and shapes."""
        return mix(x, noise_image(x, seed), self.alpha)  # section 4.1, blended injection

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:  # noqa: ARG002
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images, or all are of the target class.
            PoisonError: rule "label", `target` is no class.
        """
        check_images(train, self)
        trigger = partial(self.trigger, seed=seed)
        return dirty_label(train, test, trigger, target=self.target, budget=self.budget, seed=seed)
