"""A problem in which it is known what is poison and what rests on it."""

import torch

from poisonbench.contracts import POISON, Evidence
from poisonbench.data import Dataset
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
        x + 0.3 * torch.randn(x.shape, generator=g, dtype=x.dtype), torch.cat([true, torch.zeros(POISONED, dtype=torch.int64)]), 3
    )
    trace = train(data, Recipe(model="mlp", epochs=3, lr=0.02, batch_size=16, checkpoints=2), seed=1)
    cluster = torch.cat([torch.ones(ATTACKED, dtype=torch.int64), torch.tensor([1, 2]).repeat(15)])
    points = centres[cluster] + 0.3 * torch.randn(len(cluster), 8, generator=g, dtype=x.dtype)
    predicted = cluster.clone()
    predicted[:ATTACKED] = 0
    influence = torch.randn(len(points), len(data), generator=g, dtype=x.dtype)
    influence[:ATTACKED, -POISONED:] += 8
    trusted = (torch.arange(len(points)) >= ATTACKED) & (torch.arange(len(points)) % 4 >= 2)  # of both clusters
    role = torch.zeros(len(data), dtype=torch.uint8)
    role[-POISONED:] = POISON
    return Evidence(trace, Dataset(points, predicted, 3), influence, trusted, role)
