"""A model whose margins are sums over its training rows, and estimators that know it or do not.

For two classes: the weights of the head are the sum of the rows' features, by label.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.models.head import body_of, head_of
from poisonbench.training.trace import Trace

SCALE = 1e-3


def features(model: nn.Module, data: Dataset) -> Tensor:
    with torch.no_grad():
        return body_of(model)(data.x).flatten(1)


def sums(
    model: nn.Module, data: Dataset, seed: int
) -> Iterator[tuple[int, float, dict[str, Tensor]]]:
    """A training loop that adds every row to the weights of its class."""
    rows = features(model, data)
    head = head_of(model)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight.index_add_(0, data.y, SCALE * rows)
    yield 1, 1.0, model.state_dict()


@dataclass(frozen=True)
class Sums:
    """What each row adds to the margin, times a factor."""

    needs: ClassVar[tuple[str, ...]] = ("final model",)
    factor: float = 1.0

    def fit(self, trace: Trace) -> Callable[[Dataset], Tensor]:
        model = trace.model()
        rows = features(model, trace.train)

        def score(test: Dataset) -> Tensor:
            same = test.y[:, None] == trace.train.y
            sign = torch.where(same, self.factor, -self.factor)
            return sign * (features(model, test) @ rows.T)

        return score
