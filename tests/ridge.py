"""A model in closed form: ridge regression of two classes' labels on the pixels."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.models.head import body_of, head_of

PENALTY = 3.0


def inputs(model: nn.Module, data: Dataset) -> Tensor:
    with torch.no_grad():
        return body_of(model)(data.x).flatten(1)


def sides(y: Tensor) -> Tensor:
    """Returns 1 for class 1, -1 for class 0."""
    return (2 * y - 1).double()


def ridge(
    model: nn.Module, data: Dataset, seed: int
) -> Iterator[tuple[int, float, dict[str, Tensor]]]:
    """A training loop that solves (X^T X + PENALTY I) w = X^T t: the margins are x w."""
    rows = inputs(model, data)
    gram = rows.T @ rows + PENALTY * torch.eye(rows.shape[1], dtype=rows.dtype)
    weights = torch.linalg.solve(gram, rows.T @ sides(data.y))
    head = head_of(model)
    with torch.no_grad():
        head.bias.zero_()
        head.weight[0] = -weights / 2
        head.weight[1] = weights / 2
    yield 1, 1.0, model.state_dict()
