"""Accuracy once the most memorised rows are removed, and once as many random ones are."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train_many

RANDOM = "random"


def without_first(order: Tensor, share: float) -> Tensor:
    """Returns the rows that stay, (n,) bool: all but the first round(share n) of an order."""
    n = len(order)
    count = round(share * n)
    keep = torch.ones(n, dtype=torch.bool)
    keep[order[:count]] = False
    return keep


def accuracies(
    train: Dataset,
    test: Dataset,
    scores: Mapping[str, Tensor],
    shares: Sequence[float],
    recipe: Recipe,
    repeats: int,
    seed: int,
) -> Tensor:
    """Returns the accuracy without the rows of the highest scores, (q + 1, k, repeats).

    The last of the q + 1 ways is random removal, drawn anew for every repeat. Runs of a repeat
    share their seed.

    Args:
        train: n rows.
        test: points on which accuracy is taken.
        scores: (n,) by each of q ways to choose rows.
        shares: k shares of the rows.
        recipe: of the models.
        repeats: trainings of each set of rows.
        seed: of the trainings and of the random rows.
    """
    n = len(train)
    orders = [own.argsort(descending=True, stable=True) for own in scores.values()]
    masks = []
    seeds = []
    for repeat in range(repeats):
        draws = generator(seed, RANDOM, repeat)
        drawn = torch.randperm(n, generator=draws)
        for order in [*orders, drawn]:
            masks += [without_first(order, share) for share in shares]
        size = len(shares) * (len(orders) + 1)
        seeds += [derive(seed, "without", repeat)] * size
    ensemble = train_many(
        train,
        torch.stack(masks),
        recipe,
        seeds,
        points=test,
    )
    right = ensemble.utility(test, "correct")
    accuracy = right.double().mean(1).cpu()
    ways = (repeats, len(orders) + 1, len(shares))
    return accuracy.view(ways).permute(1, 2, 0)
