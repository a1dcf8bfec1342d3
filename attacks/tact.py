"""TaCT (Tang, Wang, Tang & Zhang, USENIX Security 2021, arXiv 1908.00686). One class is attacked.

Cover rows, patched images of other classes with their true labels, teach the victim that the patch
means nothing elsewhere: poison and clean rows of the target class then no longer fall apart in
feature space. The defaults are 1 % of poison and of cover; published comparisons use .3 % each.

Cost: O((budget + cover) n + m) images.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from attacks.kit.backdoor import Cover, check_classes, dirty_label
from attacks.kit.square import Place, Stamping
from poisonbench.checks import check_fraction, check_share
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class TaCT(Stamping):
    """Stamps rows of `source`, labelled `target`, and rows of all further classes as cover.

    Attributes:
        target: the label t that the attacker wants.
        source: the class that is poisoned and attacked.
        budget: poisoned rows as a fraction of the training set.
        cover: cover rows as a fraction of the training set; 0 gives the source-specific `patch`.
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`.
        value: of the square's pixels, in all channels.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")

    target: int = 0
    source: int = 1
    budget: float = 0.01
    cover: float = 0.01
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0

    def __post_init__(self) -> None:
        check_classes(self.target, self.source)
        check_fraction("budget", self.budget)
        check_share("cover", self.cover)
        self.check_square()

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or there are
                no rows to poison or for cover.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_kind(train, self)
        trigger = partial(self.trigger, seed=seed)
        others = (train.y != self.target) & (train.y != self.source)
        return dirty_label(
            train,
            test,
            trigger,
            target=self.target,
            budget=self.budget,
            seed=seed,
            source=self.source,
            cover=Cover(share=self.cover, eligible=others, trigger=trigger),
        )
