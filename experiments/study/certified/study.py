"""The study of certified influence, from the data to the records."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from experiments.study.certified.assaults import assaults, certifiers_of
from experiments.study.certified.orders import case_of
from experiments.study.certified.partition import Partition
from experiments.study.certified.records import Assault, Found, Removal
from experiments.study.certified.removals import removals
from poisonbench.data import Dataset, subset
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        train: rows, drawn anew for each seed.
        points: test points from which an estimator removes rows.
        parts: models of a vote.
        epochs: of each of these.
        counts: numbers of rows removed.
        budgets: numbers of rows poisoned.
        repeats: trainings without the rows.
    """

    train: int
    points: int
    parts: int
    epochs: int
    counts: Sequence[int]
    budgets: Sequence[int]
    repeats: int


def study(
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    size: Size,
    seeds: Sequence[int],
) -> Found:
    """Returns the records of all seeds.

    Args:
        train: of which each seed draws its training set.
        test: of which points and targets are drawn.
        recipe: of the model, and of the models of the votes but for their epochs.
        size: how much.
        seeds: of data, models, votes and attacks.
    """
    removed: list[Removal] = []
    attacked: list[Assault] = []
    certifier = DeepPartitionAggregation(size.parts, size.epochs)
    for seed in tqdm(seeds, desc="seeds", disable=None):
        rows = subset(train, size.train, seed)
        vote = Partition.of(
            certifier,
            rows,
            test,
            recipe,
            seed,
        )
        case = case_of(vote, recipe, size.points, seed)
        removed += removals(case, size.counts, size.repeats, seed)
        attacked += assaults(
            rows,
            test,
            recipe,
            size.budgets,
            certifiers_of(size.parts, size.epochs),
            seed,
        )
    return Found(size.parts, tuple(removed), tuple(attacked))
