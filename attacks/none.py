"""No attack: the control that shows a defense's false alarms. Cost: O(n) memory."""

from dataclasses import dataclass

from attacks.kit.rows import poison_in_place
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class NoAttack:
    """Leaves every row clean and attacks no test point."""

    seeded = False  # equal poison for every seed

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Returns the training set as it is."""
        return poison_in_place(train, test)
