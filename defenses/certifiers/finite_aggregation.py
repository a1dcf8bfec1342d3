"""Finite aggregation (Wang, Levine & Feizi, ICML 2022, arXiv 2202.02628): a vote of models on overlapping unions of small parts.

Needs: the training set; no attack is looked for.

Cost: k d models on n/k rows each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from defenses.certifiers.votes import Base, gaps, in_order, plurality
from poisonbench.contracts.values import Certified
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class FiniteAggregation:
    """k d parts by a hash of the content; each is given to d of k d models. d = 1 is deep partition aggregation.

    A changed row changes one part and so d votes, but whichever votes these are: an attacker cannot choose only those that
    matter, and the radius grows. What it counts is as in `DeepPartitionAggregation`.

    Attributes:
        k: inverse share of the rows that a model sees.
        d: models that see a part.
        epochs: of each model; it must not depend on the number of rows.
        batch_size: of each model.

    Raises:
        ValueError: a value below 1.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    k: int = 25
    d: int = 4
    epochs: int = 100
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name in ("k", "d", "epochs", "batch_size"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int, scratch: Path | None = None
    ) -> Certified:
        """Returns labels and radii for the m rows of `test`."""
        rows, value = in_order(train)
        spread = self.spread()
        masks = torch.zeros(self.k * self.d, len(rows), dtype=torch.bool)
        masks[spread[value % len(spread)], torch.arange(len(rows))[:, None]] = True
        votes = Base(recipe, self.epochs, self.batch_size, seed, scratch).vote(rows, masks, test)
        return certify(votes, spread, test.classes)

    def spread(self) -> Tensor:
        """Returns the d models that see each part, (k d, d) int64: the part's own, and others at fixed random distances."""
        total = self.k * self.d
        apart = 1 + torch.randperm(total - 1, generator=generator(0, "spread", total))[: self.d - 1]
        return (
            torch.arange(total)[:, None] + torch.cat([torch.zeros(1, dtype=torch.int64), apart])
        ) % total


def certify(votes: Tensor, spread: Tensor, classes: int) -> Certified:
    """Returns the plurality of votes (K, m) and its radius (theorem 2).

    Against a rival c', a changed part takes at most D_j = sum over its models of 2, 1 or 0 from the lead (the model votes for
    the label, for another, for the rival). The radius is the largest r for which the r largest D_j stay within the lead.
    """
    labels, counts = plurality(votes, classes)
    lead = gaps(labels, counts)
    radius = torch.full_like(labels, len(votes))
    for rival in range(classes):
        loss = 1 + (votes == labels).long() - (votes == rival).long()  # (K, m)
        worst = loss[spread].sum(1).sort(0, descending=True).values.cumsum(0)
        within = (worst <= lead[:, rival]).sum(0)
        radius = torch.where(labels == rival, radius, torch.minimum(radius, within))
    return Certified(labels, radius)
