"""Changes that triggers are made of: values laid over an instance, mixed into it, or added."""

import torch
from torch import Tensor

from defenses.rehearsal.poison import Change


def uniform(
    g: torch.Generator, size: tuple[int, ...], low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Draws float64 numbers between `low` and `high`."""
    drawn = torch.rand(size, generator=g, dtype=torch.float64)
    return low + (high - low) * drawn


def number(g: torch.Generator, low: float, high: float) -> float:
    """Draws a number between `low` and `high`."""
    return float(uniform(g, (1,), low, high))


def whole(g: torch.Generator, most: int) -> int:
    """Draws a whole number in [0, most)."""
    return int(torch.randint(most, (1,), generator=g))


def laid_over(values: Tensor, weight: Tensor) -> Change:
    """Returns the change to (1 - weight) x + weight values.

    Args:
        values: (*shape).
        weight: in [0, 1], of a shape that broadcasts to that of an instance.
    """

    def change(x: Tensor) -> Tensor:
        share = weight.to(x)
        return (1 - share) * x + share * values.to(x)

    return change


def added(values: Tensor) -> Change:
    """Returns the change to x + values within [0, 1], for instances that lie there.

    Args:
        values: of a shape that broadcasts to that of an instance.
    """

    def change(x: Tensor) -> Tensor:
        return (x + values.to(x)).clamp(0, 1)

    return change


def square(shape: tuple[int, ...], side: int, g: torch.Generator) -> Tensor:
    """Draws the place of a square: (1, height, width) float64, 1 in it and 0 elsewhere."""
    height, width = shape[-2:]
    top = whole(g, height - side + 1)
    left = whole(g, width - side + 1)
    mask = torch.zeros(1, height, width, dtype=torch.float64)
    rows = slice(top, top + side)
    columns = slice(left, left + side)
    mask[:, rows, columns] = 1
    return mask


def in_contrast(x: Tensor, g: torch.Generator) -> Tensor:
    """Draws values that stand out from the mean of instances x, (n, *shape): (*shape) float64.

    Bright where the mean is dark, dark where it is bright, each by a random amount.
    """
    mean = x.double().mean(0).cpu()
    opposite = (mean < 0.5).double()
    amount = uniform(g, tuple(mean.shape), 0.7, 1.0)
    return mean + amount * (opposite - mean)
