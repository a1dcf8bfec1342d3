"""A vote of models on parts of a training set, of which single models can be trained again."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from defenses.certifiers.deep_partition_aggregation import (
    DeepPartitionAggregation,
    certify,
)
from defenses.certifiers.votes import in_order
from poisonbench.contracts.values import Certified
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train_many


@dataclass(frozen=True, eq=False)
class Partition:
    """The models of `DeepPartitionAggregation`, and what they vote at m points.

    Attributes:
        train: n rows in the order of their hashes.
        part: (n,) int64, of each row.
        recipe: of the models of the vote.
        seed: from which each of them has its own.
        points: m test points.
        votes: (P, m) int64, the label that each of P models gives each point.
    """

    train: Dataset
    part: Tensor
    recipe: Recipe
    seed: int
    points: Dataset
    votes: Tensor

    @classmethod
    def of(
        cls,
        certifier: DeepPartitionAggregation,
        train: Dataset,
        points: Dataset,
        recipe: Recipe,
        seed: int,
    ) -> "Partition":
        """Trains the models of a certifier."""
        rows, number = in_order(train)
        own = replace(
            recipe,
            epochs=certifier.epochs,
            batch_size=certifier.batch_size,
            checkpoints=1,
        )
        part = number % certifier.parts
        every = torch.arange(certifier.parts)
        masks = part == every[:, None]
        votes = _votes(
            rows,
            masks,
            every,
            own,
            seed,
            points,
        )
        return cls(
            rows,
            part,
            own,
            seed,
            points,
            votes,
        )

    @property
    def certified(self) -> Certified:
        """The labels of the vote and their radii, (m,)."""
        return certify(self.votes, self.points.classes)

    def without(
        self,
        removed: Tensor,
        at: Tensor,
    ) -> Tensor:
        """Returns the votes once rows are gone, those of the models that had them trained again.

        Args:
            removed: (j, n) bool, the rows that are gone, of `train`.
            at: (j,) int64, the point at which each removal is looked at.

        Returns:
            (j, P) int64.
        """
        found = self.votes[:, at].T.clone()
        jobs = []
        parts = []
        for job, gone in enumerate(removed):
            for part in self.part[gone].unique().tolist():
                jobs.append(job)
                parts.append(part)
        job_of = torch.tensor(jobs)
        part_of = torch.tensor(parts)
        own = self.part == part_of[:, None]
        masks = own & ~removed[job_of]
        again = _votes(
            self.train,
            masks,
            part_of,
            self.recipe,
            self.seed,
            self.points,
        )
        models = torch.arange(len(again))
        found[job_of, part_of] = again[models, at[job_of]]
        return found


def _votes(
    train: Dataset,
    masks: Tensor,
    parts: Tensor,
    recipe: Recipe,
    seed: int,
    points: Dataset,
) -> Tensor:
    """Returns the labels that models give the points, (K, m).

    Args:
        train: n rows.
        masks: (K, n) bool, the rows of each model.
        parts: (K,) int64, of which each model is: it names the model's seed.
        recipe: of the models.
        seed: of the vote.
        points: m of them.
    """
    seeds = [derive(seed, "part", part) for part in parts.tolist()]
    ensemble = train_many(
        train,
        masks,
        recipe,
        seeds,
        points=points,
    )
    logits = ensemble.logits().nan_to_num(nan=-torch.inf)
    return logits.argmax(2)
