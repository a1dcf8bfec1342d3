"""Random labels (Zhang et al., ICLR 2017, arXiv 1611.03530). A share of the labels is drawn anew.

Cost: O(n).
"""

from dataclasses import dataclass

import torch

from attacks.kit.rows import draw, every_row, poison_in_place
from poisonbench.checks import check_part
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class RandomLabels:
    """Replaces labels by uniform ones, the true one among them; attacks no point in particular.

    Attributes:
        budget: rows with a random label as a fraction of the training set, up to 1, the default.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    budget: float = 1.0

    def __post_init__(self) -> None:
        check_part("budget", self.budget)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`."""
        rows = draw(every_row(train), self.budget, seed)
        g = generator(seed, "labels")
        drawn = torch.randint(train.classes, (len(rows),), generator=g)
        return poison_in_place(train, test, rows=rows, y=drawn.to(rows.device))
