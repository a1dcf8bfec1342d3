"""The curvature of losses at the outputs of a model, as a sum of C squares."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from poisonbench.device.eigenvectors import eigh
from poisonbench.errors import ConfigError
from poisonbench.losses import Loss, Seeds, each, has_labels, name_of
from poisonbench.objectives import logit_gradient


@dataclass(frozen=True, eq=False)
class Term:
    """One of the C terms w s s^T that the curvature at the outputs, (B, C, C), is the sum of.

    Attributes:
        seeds: give s, (B, C).
        weight: w, (B,).
    """

    seeds: Seeds
    weight: Tensor


def curvature_terms(loss: Loss, outputs: Tensor, y: Tensor) -> list[Term]:
    """Returns the terms of the second derivative of each instance's loss by its outputs, (B, C).

    For cross entropy s is the gradient at label c and w the probability of c; else eigenvectors and
    eigenvalues.
    """
    if has_labels(loss):
        probability = outputs.softmax(1)
        return [
            Term(partial(_at_label, c), probability[:, c])
            for c in range(outputs.shape[1])
        ]
    values, vectors = eigh(_second(loss, outputs, y))
    return [
        Term(partial(_fixed, vectors[:, :, c]), values[:, c])
        for c in range(outputs.shape[1])
    ]


def _at_label(label: int, outputs: Tensor, y: Tensor) -> Tensor:
    return logit_gradient(outputs, torch.full_like(y, label), "loss")


def _fixed(seed: Tensor, *_: Tensor) -> Tensor:
    return seed


def _second(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """Returns the second derivatives, (B, C, C).

    Raises:
        ConfigError: PyTorch has none of this loss.
    """
    try:
        return _derived_twice(loss, outputs, y)
    except RuntimeError as error:
        raise ConfigError(
            [f"loss {name_of(loss)} has no second derivative: {error}"],
            "take tracin or gas, which need the first alone",
        ) from error


def _derived_twice(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        free = outputs.detach().requires_grad_()
        (first,) = torch.autograd.grad(
            each(loss, free, y).sum(), free, create_graph=True
        )
        columns = []
        for c in range(outputs.shape[1]):
            column = torch.zeros_like(outputs)
            if first.requires_grad:
                (column,) = torch.autograd.grad(
                    first[:, c].sum(), free, retain_graph=True
                )
            columns.append(column)
    return torch.stack(columns, 1).detach()
