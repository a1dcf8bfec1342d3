"""The joint influence of groups of training rows: by training again, and by two estimates."""

import time
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from estimators.group import GroupInfluence, retrained
from estimators.kit.displacement import Order
from experiments.scene.cost import measured, noted
from experiments.scene.kinds.cell import Cell, about_run
from poisonbench.data import Dataset
from poisonbench.log import names
from poisonbench.notes import collecting
from poisonbench.seeding import derive
from poisonbench.training.many.batches import Convention
from poisonbench.training.trace import Trace


def group_influence(cell: Cell) -> None:
    """Measures what groups of rows give the predictions of probe points; group-EST-GROUP.h5.

    The effect on a point is its loss without the group less its loss with it, at the label that the
    victim predicts. Retraining keeps the weight of the rows that stay, 1 / n each, as the estimates
    do: with their weight raised to 1 / (n - k) it would measure something else.
    """
    method = cell.method("group")
    trace = replace(cell.victim.trace, scratch=cell.scratch)
    test = cell.victim.test
    points = test.take(torch.arange(min(method.value.points, len(test))))
    evidence = cell.evidence(method)
    seed = derive(cell.scene.seed, "group")
    with noted() as told_of, collecting() as told, measured(cell.device) as cost:
        chosen = method.value.choose(evidence, len(points), seed)
        pairs = chosen.pairs.nonzero()
        data = {
            names.GROUP_ROWS: chosen.rows,
            names.GROUP_SIZE: chosen.rows.sum(1),
            names.PAIR_GROUP: pairs[:, 0],
            names.PAIR_POINT: pairs[:, 1],
        }
        seconds = {}
        for name in (names.EFFECT_RETRAINING, names.EFFECT_FIRST, names.EFFECT_SECOND):
            start = time.perf_counter()
            effect = _effect(name, trace, chosen.rows.to(cell.device), points)
            effect = effect.detach().to(device="cpu", dtype=torch.float64)
            data[name] = effect[data[names.PAIR_POINT], data[names.PAIR_GROUP]]
            seconds[f"seconds_{name.removeprefix('effect/')}"] = (
                time.perf_counter() - start
            )
    cell.write(data, about_run(method, cost, told_of) | seconds, told)


def _effect(name: str, trace: Trace, rows: Tensor, points: Dataset) -> Tensor:
    """The effect (p, s) of each group on each point, by the data set of the log that holds it."""
    if not len(rows):
        return torch.zeros(len(points), 0)
    if name == names.EFFECT_RETRAINING:
        effect, _ = retrained(trace, rows, points, convention=_convention(trace))
        return effect
    order: Order = "first" if name == names.EFFECT_FIRST else "second"
    return GroupInfluence(order=order).fit(trace, rows)(points)


def _convention(trace: Trace) -> Convention:
    """How the rows that stay are weighted: as in the estimates, if the run tells its batches."""
    if trace.batches is not None:
        return "A"
    warnings.warn(
        "the training loop tells no batches: retraining raises the weight of the rows that stay, "
        "the estimates keep it",
        stacklevel=2,
    )
    return "B"
