"""How many instances an estimator takes away before a prediction changes: estimated, and done."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from defenses.certifiers.votes import plurality
from experiments.study.certified.orders import Case, orders
from experiments.study.certified.partition import Partition
from experiments.study.certified.records import Removal
from poisonbench.seeding import derive
from poisonbench.training import train_many


def removals(
    case: Case,
    counts: Sequence[int],
    repeats: int,
    seed: int,
) -> list[Removal]:
    """Returns what the removal of the first k rows of each source does to model and vote.

    Args:
        case: model, vote and points.
        counts: the numbers k.
        repeats: trainings of the model without the rows, each paired with one on all rows.
        seed: of the trainings.
    """
    ordered = orders(case, seed)
    jobs = [
        (name, point, count)
        for name in ordered
        for point in range(len(case.points))
        for count in counts
    ]
    removed = _removed(case, ordered, jobs)
    at = torch.tensor([point for _, point, _ in jobs])
    changed = _changed(
        case,
        removed,
        at,
        repeats,
        seed,
    )
    votes = case.vote.without(removed, at)
    labels, moved = _of_votes(case.vote, votes, at)
    radius = case.vote.certified.radius
    found = []
    for job, (name, point, count) in enumerate(jobs):
        said = ordered[name][1]
        estimated = None if said is None else bool(said[point, count - 1])
        removal = Removal(
            seed=seed,
            source=name,
            point=int(case.number[point]),
            count=count,
            radius=int(radius[point]),
            model=float(changed[job]),
            vote=bool(labels[job] != case.points.y[point]),
            moved=float(moved[job]),
            estimated=estimated,
        )
        found.append(removal)
    return found


def _removed(
    case: Case,
    ordered: Mapping[str, tuple[Tensor, Tensor | None]],
    jobs: Sequence[tuple[str, int, int]],
) -> Tensor:
    """Returns the rows that each job takes away, (j, n) bool."""
    removed = torch.zeros(len(jobs), len(case.trace.train), dtype=torch.bool)
    for job, (name, point, count) in enumerate(jobs):
        first = ordered[name][0][point, :count]
        removed[job, first] = True
    return removed


def _changed(
    case: Case,
    removed: Tensor,
    at: Tensor,
    repeats: int,
    seed: int,
) -> Tensor:
    """Returns the share of paired trainings in which the model's prediction changes, (j,)."""
    everyone = torch.ones_like(removed[:1])
    masks = torch.cat([everyone, ~removed])
    seeds = [derive(seed, "removed", r) for r in range(repeats)]
    ensemble = train_many(
        case.trace.train,
        masks.repeat(repeats, 1),
        case.trace.by_recipe,
        [own for own in seeds for _ in masks],
        batches="full",
        points=case.points,
    )
    labels = ensemble.logits().argmax(2)
    by_repeat = labels.unflatten(0, (repeats, -1))  # (repeats, 1 + j, m)
    jobs = torch.arange(len(at))
    after = by_repeat[:, 1 + jobs, at]
    before = by_repeat[:, 0, at]
    share: Tensor = (after != before).double().mean(0)
    return share


def _of_votes(
    vote: Partition,
    votes: Tensor,
    at: Tensor,
) -> tuple[Tensor, Tensor]:
    """Returns the labels of changed votes (j, P), and the share that left or joined the label.

    Both are (j,).
    """
    labels = plurality(votes.T, vote.points.classes)[0]
    label = vote.points.y[at]
    before = (vote.votes[:, at] == label).double().mean(0)
    after = (votes == label[:, None]).double().mean(1)
    return labels, (after - before).abs()
