"""Clusters with backdoors, a victim trained on them, and real means to train it again."""

import torch
from torch import Tensor

from estimators import ESTIMATORS
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

RECIPE = Recipe(model="mlp", epochs=20, lr=0.05, batch_size=16, checkpoints=4)
ATTACKED, ROWS = 10, 60


def backdoor(
    *triggers: tuple[int, int, int], poison: int, seed: int = 0
) -> tuple[Evidence, Tensor, Tensor]:
    """Four clusters of 60 rows, and `poison` rows for each trigger.

    A trigger is (source, label, feature that it sets). Returns the evidence, which rows are poison,
    (n,) bool, and which probe points bear a trigger, (m,) bool: 10 for each.
    """
    g = generator(seed, "backdoor")

    def draw(clean: int, each: int) -> tuple[Tensor, Tensor, Tensor]:
        of = (
            torch.tensor([source for source, _, _ in triggers])
            .long()
            .repeat_interleave(each)
        )
        true = torch.cat([torch.arange(4).repeat_interleave(clean), of])
        x = 2 * torch.eye(4, 10, dtype=torch.float64)[true]
        x = x + 0.3 * torch.randn(x.shape, generator=g, dtype=x.dtype)
        y = true.clone()
        for k, (_, label, feature) in enumerate(triggers):
            rows = slice(4 * clean + k * each, 4 * clean + (k + 1) * each)
            x[rows, feature] += 4
            y[rows] = label
        return x, y, torch.arange(len(true)) >= 4 * clean

    x, y, bad = draw(ROWS, poison)
    points, _, attacked = draw(10, ATTACKED)
    trace = train(Dataset(x, y, 4), RECIPE, seed=1)
    return (
        Evidence(trace, Dataset(points, predict(trace.model(), points).argmax(1), 4)),
        bad,
        attacked,
    )


def means(evidence: Evidence, flags: Tensor) -> Means:
    """Real training and a real estimator."""
    trace, gas = evidence.trace, ESTIMATORS["gas"]()
    return Means(
        lambda keep: train(trace.train.take(keep), trace.recipe, trace.seed),
        lambda run, points: gas.fit(run)(points),
        flags.double(),
        flags,
    )
