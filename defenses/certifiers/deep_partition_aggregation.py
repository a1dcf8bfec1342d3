"""DPA, deep partition aggregation: a vote of models on disjoint parts of the rows.

Source: Levine & Feizi, ICLR 2021, arXiv 2006.14768.

Needs: the training set; no attack is looked for.

Cost: k models on n/k rows each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from defenses.certifiers.votes import Base, check_rows, gaps, in_order, plurality
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Certified
from poisonbench.data import Dataset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class DeepPartitionAggregation:
    """Each row goes to the part that a hash of its content names; a changed row changes one vote.

    The radius counts rows inserted or deleted, and labels changed; a row that is changed otherwise
    counts twice. It holds for models that depend on their own rows alone, up to the rounding of
    `train_many`.

    Attributes:
        parts: k.
        epochs: of each model. They see few rows, so more than the recipe's; it must not depend on
            the number of rows.
        batch_size: of each model.

    Raises:
        ValueError: a value below 1.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    parts: int = 50
    epochs: int = 100
    batch_size: int = 16

    def __post_init__(self) -> None:
        check_at_least("parts", self.parts, 1)
        check_at_least("epochs", self.epochs, 1)
        check_at_least("batch_size", self.batch_size, 1)

    def __call__(
        self,
        train: Dataset,
        test: Dataset,
        recipe: Recipe,
        seed: int,
        scratch: Path | None = None,
    ) -> Certified:
        """Returns labels and radii for the m rows of `test`.

        Raises:
            ValueError: no training rows, or no test points.
        """
        check_rows(train, test)
        rows, number = in_order(train)
        part = number % self.parts  # (n,)
        masks = part == torch.arange(self.parts)[:, None]
        base = Base(
            recipe=recipe,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            scratch=scratch,
        )
        votes = base.vote(rows, masks, test)
        return certify(votes, test.classes)


def certify(votes: Tensor, classes: int) -> Certified:
    """Returns the plurality of votes and its radius floor(min_c' (n_c - n_c' - [c' < c]) / 2).

    That is equation 10; with a single class nothing can win, and the radius is half of the votes.

    Args:
        votes: (k, m) int64.
        classes: C.
    """
    k = len(votes)
    labels, counts = plurality(votes, classes)
    lead = gaps(labels, counts)
    own = labels[:, None]
    rivals = lead.scatter(1, own, k)  # its own class is no rival
    smallest = rivals.min(1).values.clamp(max=k)
    return Certified(labels, smallest // 2)
