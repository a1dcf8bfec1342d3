"""Finite aggregation: a vote of models on overlapping unions of small parts.

Source: Wang, Levine & Feizi, ICML 2022, arXiv 2202.02628.

Needs: the training set; no attack is looked for.

Cost: k d models on n/k rows each.
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
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class FiniteAggregation:
    """k d parts by a hash of the content; each is given to d of k d models. d = 1 is DPA.

    A changed row changes one part and so d votes, but whichever votes these are: an attacker cannot
    choose only those that matter, and the radius grows. What it counts is as in
    `DeepPartitionAggregation`.

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
        check_at_least("k", self.k, 1)
        check_at_least("d", self.d, 1)
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
        spread = self.spread()
        base = Base(
            recipe=recipe,
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
            scratch=scratch,
        )
        masks = masks_of(number, spread)
        votes = base.vote(rows, masks, test)
        return certify(votes, spread, test.classes)

    def spread(self) -> Tensor:
        """Returns the d models that see each part, (k d, d) int64.

        The part's own, and others at fixed random distances.
        """
        total = self.k * self.d
        g = generator(0, "spread", total)
        order = torch.randperm(total - 1, generator=g)
        none = torch.zeros(1, dtype=torch.int64)
        apart = 1 + order[: self.d - 1]
        distances = torch.cat([none, apart])
        part = torch.arange(total)[:, None]
        return (part + distances) % total


def masks_of(number: Tensor, spread: Tensor) -> Tensor:
    """Returns the rows that each model sees, (K, n) bool.

    Args:
        number: (n,) int64, the hash of each row.
        spread: (K, d) int64, the models that see each part.
    """
    n = len(number)
    total = len(spread)
    masks = torch.zeros(total, n, dtype=torch.bool)
    models = spread[number % total]  # (n, d)
    rows = torch.arange(n)[:, None]
    masks[models, rows] = True
    return masks


def certify(votes: Tensor, spread: Tensor, classes: int) -> Certified:
    """Returns the plurality of votes and its radius (theorem 2).

    Against a rival c', a changed part takes at most D_j = sum over its models of 2, 1 or 0 from the
    lead (the model votes for the label, for another, for the rival). The radius is the largest r
    for which the r largest D_j stay within the lead.

    Args:
        votes: (K, m) int64.
        spread: (K, d) int64, the models that see each part.
        classes: C.
    """
    labels, counts = plurality(votes, classes)
    lead = gaps(labels, counts)
    radius = torch.full_like(labels, len(votes))
    for rival in range(classes):
        for_label = (votes == labels).long()
        for_rival = (votes == rival).long()
        loss = 1 + for_label - for_rival  # (K, m)
        of_part = loss[spread].sum(1)
        largest_first = of_part.sort(0, descending=True).values
        worst = largest_first.cumsum(0)
        stays = worst <= lead[:, rival]
        smaller = torch.minimum(radius, stays.sum(0))
        radius = torch.where(labels == rival, radius, smaller)
    return Certified(labels, radius)
