"""Problems in which it is known what is poison and what rests on it; the first is that of `poisonbench check detector`."""

from dataclasses import replace

import torch

from experiments.check.planted import ATTACKED, POISONED, planted
from poisonbench.contracts import Evidence
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

__all__ = ["ATTACKED", "POISONED", "planted", "triggered"]


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
    state = {"head.weight": weight / 4, "head.bias": weight.sum(1) / 2}  # behind the model's normalisation, 4 x - 2
    trace = replace(trace, checkpoints=(replace(trace.checkpoints[0], state=state),))
    kind = torch.tensor([1, 2]).repeat(20)
    points, predicted = images(kind), kind.clone()
    points[:ATTACKED, :, 6:, 6:] = 1.0
    predicted[:ATTACKED] = 0
    return Evidence(trace, Dataset(points, predicted, 3), None, torch.arange(len(kind)) >= 2 * ATTACKED)
