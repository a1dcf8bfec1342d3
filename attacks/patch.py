"""Patch, BadNets (Gu, Dolan-Gavitt & Garg, 2017, arXiv 1708.06733). A bright square is the trigger.

Cost: O(budget n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from attacks.kit.backdoor import Target, check_classes, dirty_label
from attacks.kit.square import Place, Stamping
from poisonbench.checks import check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Patch(Stamping):
    """Stamps a square on rows of other classes, labels them `target`, and attacks with the square.

    Attributes:
        target: the label t that the attacker wants; "all-to-all": every class is attacked, and
            wanted is the one after it.
        budget: poisoned rows as a fraction of the training set.
        size: side s of the square in pixels, 1 for the single-pixel attack; None means 3, or 2
            where a side is below 16.
        place: a corner, flush with the border; "corners", all four; the centre; "random", a place
            of its own for each image, drawn by the seed and a hash of the clean pixels.
        value: of the square's pixels, in all channels.
        source: the one class that is poisoned and attacked; None for all but the target.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")

    target: Target = 0
    budget: float = 0.01
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    source: int | None = None

    def __post_init__(self) -> None:
        check_classes(self.target, self.source)
        check_fraction("budget", self.budget)
        self.check_square()

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or no row
                can be poisoned.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_kind(train, self)
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            source=self.source,
        )
