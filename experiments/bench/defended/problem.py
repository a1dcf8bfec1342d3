"""A cheap victim on n rows, with all that a detector, a filter or a certifier may see of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.gas import GAS
from experiments.bench.problem import images
from poisonbench.contracts.calibration import means_in_memory
from poisonbench.contracts.scope import per_cosine
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.roles import CLEAN
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

RECIPE = Recipe(model="cnn", epochs=1, batch_size=64, lr=0.05, checkpoints=1)


@dataclass(frozen=True, eq=False)
class Problem:
    """A victim of one epoch and one checkpoint, and the points that are judged.

    Attributes:
        trace: the victim's run.
        points: m of them, with predicted labels; half of them are trusted.
        influence: (m, n), by GAS.
    """

    trace: Trace
    points: Dataset
    influence: Tensor

    @classmethod
    def of(cls, n: int, m: int) -> "Problem":
        """Returns the victim on the first n training images of CIFAR-10."""
        data, test, _ = images(n, m)
        trace = train(data, RECIPE, 0)
        labels = predict(trace.model(), test.x).argmax(1)
        points = test.relabel(labels)
        return cls(trace, points, GAS().fit(trace)(points))

    def score(self) -> Tensor:
        """Returns the influence matrix, computed anew."""
        scores: Tensor = GAS().fit(self.trace)(self.points)
        return scores

    def train(self) -> Trace:
        """Returns the victim, trained anew."""
        return train(self.trace.train, RECIPE, 0)

    def evidence(self, uses: tuple[str, ...]) -> Evidence:
        """Returns what a defense may see, with nothing computed yet.

        Args:
            uses: what it declares to read; of influence it gets none otherwise, as in a grid.
        """
        trusted = torch.arange(len(self.points)) % 2 == 0
        reads = "influence" in uses
        return Evidence(
            trace=self.trace,
            test=self.points,
            influence=self.influence if reads else None,
            trusted=trusted,
            role=torch.full_like(self.trace.train.y, CLEAN, dtype=torch.uint8),
            means=means_in_memory(self.trace, GAS()),
            per_cosine=per_cosine(GAS(), self.trace) if reads else None,
        )
