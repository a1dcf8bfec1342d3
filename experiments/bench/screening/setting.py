"""The run and the points on which screened and exact influence are compared, and their clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset, load
from poisonbench.models import predict
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

TOP = 10  # rows of a point whose recall is measured


@dataclass(frozen=True, eq=False)
class Setting:
    """A training run and test points.

    Attributes:
        trace: n training instances and K checkpoints.
        test: m points at the labels that the run predicts.
        device: of both.
    """

    trace: Trace
    test: Dataset
    device: torch.device

    def seconds(self, work: Callable[[], object]) -> float:
        """Returns the seconds of some work: of the processor, or on a GPU of the wall clock."""
        if self.device.type != "cuda":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def of_batch(self, scorer: Scorer, size: int, batches: int = 1) -> float:
        """Returns the seconds that a batch of `size` points takes, the mean of a few batches."""
        count = max(1, min(batches, len(self.test) // size))
        index = torch.arange(count * size)
        parts = [self.test.take(rows) for rows in index.split(size)]

        def work() -> None:
            for part in parts:
                scorer(part)

        return self.seconds(work) / count


def setting(
    model: str,
    n: int,
    m: int,
    epochs: int,
    checkpoints: int,
    device: torch.device,
    root: Path | None,
) -> Setting:
    """Trains a model on the first n images of CIFAR-10 for the first m test images."""
    data, points = load("cifar10", root)
    data = data.take(torch.arange(n)).to(device)
    recipe = Recipe(
        model=model, epochs=epochs, batch_size=64, lr=0.05, checkpoints=checkpoints
    )
    trace = train(data, recipe, 0)
    points = points.take(torch.arange(m)).to(device)
    predicted = predict(trace.model(), points.x).argmax(1)
    return Setting(trace, points.relabel(predicted), device)


def recall(scores: Tensor, wanted: Tensor) -> Tensor:
    """Returns the share of each point's ten largest exact scores that are there, (m,).

    Args:
        scores: (m, n), NaN where it was not computed.
        wanted: (m, n), exact.
    """
    largest = wanted.topk(TOP).indices
    found = ~scores.gather(1, largest).isnan()
    return found.double().mean(1)


def interval(values: Tensor) -> str:
    """Returns a mean over points with its 95 % interval, of the normal distribution."""
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / len(values) ** 0.5
    return f"{mean:.3f} [{mean - half:.3f}, {min(1.0, mean + half):.3f}]"


def kept_alone(scores: Tensor, rows: Tensor) -> Tensor:
    """Returns the scores at the rows (m, s) of each point, NaN elsewhere."""
    kept = torch.full_like(scores, torch.nan)
    return kept.scatter(1, rows, scores.gather(1, rows))
