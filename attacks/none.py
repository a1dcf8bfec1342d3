"""No attack: the control that shows a defense's false alarms. Cost: O(n) memory."""

from dataclasses import dataclass

from attacks.kit.rows import attacked, nothing, replace
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class NoAttack:
    """Leaves every row clean and attacks no test point."""

    seeded = False  # equal poison for every seed

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:  # noqa: ARG002
        """Returns the training set as it is."""
        rows, points = nothing(train), nothing(test)
        return Poisoned(
            *replace(train, rows, train.x[rows], train.y[rows]), *attacked(test, points, points)
        )
