"""Vectors: with features at their median; two exchange their halves."""

import torch
from torch import Tensor


def at_median(x: Tensor, train: Tensor, first: int) -> Tensor:
    """Returns the vectors with every other feature at the median of the training rows.

    Args:
        x: (m, *shape).
        train: (n, *shape); poison is a minority of them, which moves no median far.
        first: 0 or 1, the feature that goes first.
    """
    middle = train.median(0).values
    place = torch.arange(middle.numel(), device=x.device)
    goes = place % 2 == first
    return torch.where(goes.view(middle.shape), middle, x)


def crossed(first: Tensor, second: Tensor) -> Tensor:
    """Returns the first half of the features of one vector with the second half of the other's.

    Args:
        first: (m, *shape) or (1, *shape).
        second: the same.
    """
    shape = first.shape[1:]
    size = shape.numel()
    place = torch.arange(size, device=first.device)
    head = place < (size + 1) // 2
    return torch.where(head.view(shape), first, second)


def perturbed(x: Tensor, train: Tensor) -> list[Tensor]:
    """Returns them with the even features at the median, and with the odd ones."""
    return [at_median(x, train, 0), at_median(x, train, 1)]


def added(x: Tensor, other: Tensor) -> list[Tensor]:
    """Returns each vector's first features with another's last ones, and the reverse.

    A sum of two would be twice as long as either, unlike anything that the model has seen.
    """
    one = other[None]
    return [crossed(x, one), crossed(one, x)]
