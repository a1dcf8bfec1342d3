"""Influence of one of c copies and of all of them: by training again, and by estimators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.gas import GAS
from estimators.group import GroupInfluence
from estimators.influence_functions import InfluenceFunctions
from estimators.representer_point import RepresenterPoint
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK
from experiments.study.copies.cases import Case
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset, join
from poisonbench.objectives import Measure
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Trace, train, train_many

TOLERANCE = 0.1  # of the conjugate gradients of groups, as of influence functions
POINTWISE: dict[str, Estimator] = {
    "influence functions": InfluenceFunctions(),
    "TracIn": TracIn(),
    "GAS": GAS(),
    "representer points": RepresenterPoint(),
    "TRAK": TRAK(dimensions=512),
    "KNN-Shapley": Shapley(method="knn"),
}
GROUPS: dict[str, GroupInfluence] = {
    "group, second order": GroupInfluence("second", tolerance=TOLERANCE),
    "group, Newton": GroupInfluence("newton", tolerance=TOLERANCE),
}
KNOWN = [*POINTWISE, *GROUPS]


@dataclass(frozen=True, eq=False)
class Effects:
    """Influence at m points of copies of an instance, for each of s counts c.

    Attributes:
        one: (..., s, m), of one copy, the others staying.
        every: (..., s, m), of all c copies.
    """

    one: Tensor
    every: Tensor


def with_copies(
    base: Dataset,
    instance: Dataset,
    count: int,
) -> Dataset:
    """Returns the training set with `count` copies of the instance at its end."""
    copies = instance.take(torch.zeros(count, dtype=torch.int64))
    return join([base, copies])


def retrained(
    base: Dataset,
    case: Case,
    counts: Sequence[int],
    recipe: Recipe,
    seeds: Sequence[int],
    measure: Measure = "loss",
) -> Effects:
    """Returns the effects by training with c, c - 1 and no copies, (R, s, m) for R seeds.

    The runs of a seed are paired: they walk the same batches, from which copies are missing.

    Args:
        base: the training set without copies.
        case: instance and points.
        counts: s numbers of copies.
        recipe: of the models.
        seeds: R ints.
        measure: of a model at a point; the effect is the measure with the copies less without.
    """
    needed = {0}
    for count in counts:
        needed |= {count - 1, count}
    held = sorted(needed)
    data = with_copies(base, case.instance, max(counts))
    number = torch.arange(len(data)) - len(base)  # of a copy; below 0 in the base
    masks = number < torch.tensor(held)[:, None]
    ensemble = train_many(
        data,
        masks.repeat(len(seeds), 1),
        recipe,
        [seed for seed in seeds for _ in held],
        batches="full",
        points=case.points,
    )
    values = ensemble.utility(case.points, measure).double()
    by_seed = values.unflatten(0, (len(seeds), len(held)))
    place = {count: k for k, count in enumerate(held)}
    all_there = by_seed[:, [place[count] for count in counts]]
    one_less = by_seed[:, [place[count - 1] for count in counts]]
    none_there = by_seed[:, :1]
    return Effects(all_there - one_less, all_there - none_there)


def estimated(
    base: Dataset,
    case: Case,
    counts: Sequence[int],
    recipe: Recipe,
    seed: int,
    names: Sequence[str],
) -> dict[str, Effects]:
    """Returns what each of the named estimators says of the models with c copies, (s, m)."""
    pointwise = {name: POINTWISE[name] for name in names if name in POINTWISE}
    groups = {name: GROUPS[name] for name in names if name in GROUPS}
    found: dict[str, list[Effects]] = {}
    for count in counts:
        trace = train(with_copies(base, case.instance, count), recipe, seed)
        answers = of_run(
            trace,
            case.points,
            count,
            pointwise,
            groups,
        )
        for name, effects in answers.items():
            found.setdefault(name, []).append(effects)
    stacked = {}
    for name, parts in found.items():
        one = torch.stack([part.one for part in parts])
        every = torch.stack([part.every for part in parts])
        stacked[name] = Effects(one, every)
    return stacked


def of_run(
    trace: Trace,
    points: Dataset,
    count: int,
    pointwise: Mapping[str, Estimator],
    groups: Mapping[str, GroupInfluence],
) -> dict[str, Effects]:
    """Returns what each estimator says of the last `count` rows of a training set, (m,).

    Estimators of single rows are summed over the copies; those of groups are asked for both.
    """
    n = len(trace.train)
    found = {}
    for name, estimator in pointwise.items():
        scores = estimator.fit(trace)(points)
        own = scores[:, n - count :].double()
        found[name] = Effects(own.mean(1), own.sum(1))
    row = torch.arange(n)
    asked = torch.stack([row == n - 1, row >= n - count])
    for name, group in groups.items():
        of_groups = group.fit(trace, asked)(points).double()
        found[name] = Effects(of_groups[:, 0], of_groups[:, 1])
    return found


def seeds_of(
    seed: int,
    repeats: int,
) -> list[int]:
    """Returns the seeds of the trainings again."""
    return [derive(seed, "copies", r) for r in range(repeats)]
