"""The instances that are copied, and the test points at which their influence is measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.patch import Patch
from poisonbench.data import Dataset, stratified
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train_many

KINDS = (
    "typical",
    "atypical",
    "mislabelled",
    "backdoored",
)
JUDGES = 5  # models that tell which instances are atypical
TARGET = 0  # the label of backdoored instances


@dataclass(frozen=True, eq=False)
class Case:
    """An instance, and the points that it may move.

    Attributes:
        kind: one of `KINDS`.
        instance: the one row.
        points: m test points, all with the label of the instance, at which they are judged.
    """

    kind: str
    instance: Dataset
    points: Dataset


@dataclass(frozen=True)
class Size:
    """How much is drawn.

    Attributes:
        train: rows of the training set that gets the copies.
        instances: of each kind.
        points: test points of an instance.
    """

    train: int = 400
    instances: int = 5
    points: int = 3


def split(
    train: Dataset,
    size: int,
    seed: int,
) -> tuple[Dataset, Dataset]:
    """Returns a stratified training set of `size` rows, and the rows that are left over."""
    rows = stratified(train, size, seed)
    left = torch.ones(len(train), dtype=torch.bool)
    left[rows] = False
    return train.take(rows), train.take(left)


def choose(
    base: Dataset, spare: Dataset, test: Dataset, recipe: Recipe, size: Size, seed: int
) -> list[Case]:
    """Returns the cases, `size.instances` of each kind, from rows that are not trained on.

    Typical and atypical ones have the median and the lowest margins by models of `base`.
    Mislabelled ones are typical but for their label, backdoored ones have a square and its label.
    Their points are the nearest in pixels; of backdoored ones, any with the square.

    Args:
        base: the training set to which copies will be added.
        spare: rows of which instances are made.
        test: of which points are chosen.
        recipe: of the models.
        size: how many.
        seed: of the models, and of what is drawn.
    """
    count = size.instances
    order = _margins(base, spare, recipe, seed).argsort()
    middle = len(order) // 2 - count
    median = order[middle : middle + 2 * count]
    wrong = _wrong_labels(spare, seed)
    chosen = {
        "typical": (spare, median[:count]),
        "atypical": (spare, order[:count]),
        "mislabelled": (wrong, median[count:]),
    }
    cases = []
    for kind, (rows, numbers) in chosen.items():
        for row in numbers.tolist():
            instance = rows.take(torch.tensor([row]))
            points = _nearest(instance, test, size.points)
            cases.append(Case(kind, instance, points))
    for row in _others(spare, count, seed):
        instance = _triggered(spare.take(torch.tensor([row])))
        drawn = _others(test, size.points, derive(seed, "points", row))
        points = _triggered(test.take(torch.tensor(drawn)))
        cases.append(Case("backdoored", instance, points))
    return cases


def _margins(
    base: Dataset,
    spare: Dataset,
    recipe: Recipe,
    seed: int,
) -> Tensor:
    """Returns the mean margins of instances that the models have not seen, (n,)."""
    masks = torch.ones(JUDGES, len(base), dtype=torch.bool)
    seeds = [derive(seed, "judge", k) for k in range(JUDGES)]
    ensemble = train_many(
        base,
        masks,
        recipe,
        seeds,
        points=spare,
    )
    return ensemble.utility(spare, "margin").mean(0)


def _wrong_labels(
    data: Dataset,
    seed: int,
) -> Dataset:
    shift = torch.randint(
        1, data.classes, (len(data),), generator=generator(seed, "wrong")
    )
    return data.relabel((data.y + shift) % data.classes)


def _others(
    data: Dataset,
    count: int,
    seed: int,
) -> list[int]:
    """Draws rows of other classes than the target."""
    rows = (data.y != TARGET).nonzero().squeeze(1)
    order = torch.randperm(len(rows), generator=generator(seed, "backdoored"))
    chosen: list[int] = rows[order[:count]].tolist()
    return chosen


def _triggered(data: Dataset) -> Dataset:
    """Returns the rows with the square, at the label that the attacker wants."""
    trigger = Patch(target=TARGET).trigger
    return data.rows(trigger(data.x), torch.full_like(data.y, TARGET))


def _nearest(
    instance: Dataset,
    test: Dataset,
    points: int,
) -> Dataset:
    """Returns the points nearest in pixels, at the label of the instance."""
    distance = torch.cdist(test.x.flatten(1), instance.x.flatten(1)).squeeze(1)
    nearest = test.take(distance.argsort(stable=True)[:points])
    return nearest.relabel(instance.y.expand(points))
