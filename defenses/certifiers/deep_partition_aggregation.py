"""DPA, deep partition aggregation (Levine & Feizi, ICLR 2021, arXiv 2006.14768): a vote of models on disjoint parts of the rows.

Needs: the training set; no attack is looked for.

Cost: k models on n/k rows each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from defenses.certifiers.votes import Base, gaps, in_order, plurality
from poisonbench.contracts.values import Certified
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class DeepPartitionAggregation:
    """Each row goes to the part that a hash of its content names; a changed row changes one model, and so one vote.

    The radius counts rows inserted or deleted, and labels changed; a row that is changed otherwise counts twice. It holds for
    models that depend on their own rows alone, up to the rounding of `train_many`.

    Attributes:
        parts: k.
        epochs: of each model. They see few rows, so more than the recipe's; it must not depend on the number of rows.
        batch_size: of each model.

    Raises:
        ValueError: a value below 1.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    parts: int = 50
    epochs: int = 100
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("parts", "epochs", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int, scratch: Path | None = None
    ) -> Certified:
        """Returns labels and radii for the m rows of `test`."""
        rows, value = in_order(train)
        masks = value % self.parts == torch.arange(self.parts)[:, None]
        return certify(
            Base(recipe, self.epochs, self.batch_size, seed, scratch).vote(rows, masks, test),
            test.classes,
        )


def certify(votes: Tensor, classes: int) -> Certified:
    """Returns the plurality of votes (k, m) and its radius floor(min_c' (n_c - n_c' - [c' < c]) / 2) (eq. 10)."""
    labels, counts = plurality(votes, classes)
    lead = gaps(labels, counts).scatter(1, labels[:, None], len(votes))  # its own class is no rival
    return Certified(labels, lead.min(1).values.clamp(max=len(votes)) // 2)
