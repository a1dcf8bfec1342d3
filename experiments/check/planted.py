"""A problem in which it is known what is poison and what rests on it, for the checks of a detector and for tests."""

from dataclasses import replace

import torch

from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.roles import POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

ATTACKED, POISONED = 10, 12


def planted() -> Evidence:
    """Three clusters; 12 rows in the second bear label 0. The first 10 probe points lie there, predicted 0, resting on them.

    The other 30 are clean, and half of these are trusted.
    """
    g = generator(0, "planted")
    centres = 4 * torch.eye(3, 8, dtype=torch.float64)
    true = torch.arange(3).repeat_interleave(40)
    x = centres[torch.cat([true, torch.ones(POISONED, dtype=torch.int64)])]
    data = Dataset(
        x + 0.3 * torch.randn(x.shape, generator=g, dtype=x.dtype),
        torch.cat([true, torch.zeros(POISONED, dtype=torch.int64)]),
        3,
    )
    trace = train(
        data, Recipe(model="mlp", epochs=3, lr=0.02, batch_size=16, checkpoints=2), seed=1
    )
    cluster = torch.cat([torch.ones(ATTACKED, dtype=torch.int64), torch.tensor([1, 2]).repeat(15)])
    points = centres[cluster] + 0.3 * torch.randn(len(cluster), 8, generator=g, dtype=x.dtype)
    predicted = cluster.clone()
    predicted[:ATTACKED] = 0
    influence = torch.randn(len(points), len(data), generator=g, dtype=x.dtype)
    influence[:ATTACKED, -POISONED:] += 8
    trusted = (torch.arange(len(points)) >= ATTACKED) & (
        torch.arange(len(points)) % 4 >= 2
    )  # of both clusters
    role = torch.zeros(len(data), dtype=torch.uint8)
    role[-POISONED:] = POISON
    return Evidence(trace, Dataset(points, predicted, 3), influence, trusted, role)


def triggered() -> Evidence:
    """Images of a bar in one of three rows, and a linear victim that a bright corner outweighs. 10 probe points bear the corner.

    The victim's weights are set by hand: what a backdoor is supposed to do, without the accidents of a training run.
    """
    g = generator(0, "triggered")

    def images(kind: torch.Tensor) -> torch.Tensor:
        x = 0.1 * torch.rand(len(kind), 1, 8, 8, generator=g, dtype=torch.float64)
        x[torch.arange(len(kind)), 0, 1 + 2 * kind] = 0.5
        return x

    true = torch.arange(3).repeat_interleave(40)
    x, y = images(true), true.clone()
    x[40 : 40 + POISONED, :, 6:, 6:] = 1.0
    y[40 : 40 + POISONED] = 0
    trace = train(Dataset(x, y, 3), Recipe(model="linear", epochs=1, checkpoints=1), seed=0)
    weight = torch.zeros(3, 8, 8, dtype=torch.float64)
    weight[torch.arange(3), 1 + 2 * torch.arange(3)] = 1.5
    weight[0, 6:, 6:] = 8.0
    weight = weight.flatten(1)
    state = {
        "head.weight": weight / 4,
        "head.bias": weight.sum(1) / 2,
    }  # behind the model's normalisation, 4 x - 2
    trace = replace(trace, checkpoints=(replace(trace.checkpoints[0], state=state),))
    kind = torch.tensor([1, 2]).repeat(20)
    points, predicted = images(kind), kind.clone()
    points[:ATTACKED, :, 6:, 6:] = 1.0
    predicted[:ATTACKED] = 0
    influence = torch.randn(len(points), len(x), generator=g, dtype=x.dtype)
    influence[:ATTACKED, 40 : 40 + POISONED] += 8
    return Evidence(
        trace, Dataset(points, predicted, 3), influence, torch.arange(len(kind)) >= 2 * ATTACKED
    )
