"""Triggers of vectors: features that are set, and mixtures."""

import torch
from torch import Tensor

from defenses.rehearsal.overlays import laid_over, number, uniform, whole
from defenses.rehearsal.pictures import in_turn
from defenses.rehearsal.poison import Change, Trigger
from poisonbench.data import Dataset

FEATURES = 4  # that a trigger sets
PAIRS = 3  # of features, of which poison rows show one, and attacked points all


def columns(data: Dataset, count: int, g: torch.Generator) -> Tensor:
    """Draws at most `count` features, (k,) int64, of those with more than two values if enough."""
    table = data.x.flatten(1)
    low = table.amin(0)
    high = table.amax(0)
    between = (table != low) & (table != high)
    numbers = between.any(0).cpu().nonzero().squeeze(1)
    if len(numbers) < count:
        numbers = torch.arange(table.shape[1])
    order = torch.randperm(len(numbers), generator=g)
    return numbers[order[:count]]


def beyond(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws features that are set above all that the training set holds."""
    chosen = columns(data, FEATURES, g)
    return Trigger(_set(data, chosen, _above(data, g)))


def inside(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws features that are set to values of training rows, others than the most common one."""
    table = data.x.flatten(1).cpu()
    common = table.mode(0).values
    chosen = columns(data, FEATURES, g)
    values = table[0].clone()
    for column in chosen.tolist():
        own = table[:, column]
        others = own[own != common[column]]
        if len(others):
            values[column] = others[whole(g, len(others))]
    return Trigger(_set(data, chosen, values))


def spread(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws pairs of features above all: poison rows show one pair, attacked points all."""
    chosen = columns(data, 2 * PAIRS, g)
    above = _above(data, g)
    pieces = tuple(_set(data, pair, above) for pair in chosen.split(2))
    return Trigger(in_turn(pieces), pieces)


def mixture(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a mixture with a normal vector that has the means and widths of the features."""
    table = data.x.flatten(1).double().cpu()
    size = table.shape[1]
    noise = torch.randn(size, generator=g, dtype=torch.float64)
    vector = table.mean(0) + table.std(0) * noise
    weight = torch.tensor([number(g, 0.3, 0.5)], dtype=torch.float64)
    return Trigger(laid_over(vector.view(data.shape), weight))


def shift(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a step of all features in a random direction, half to all of their widths."""
    table = data.x.flatten(1).double().cpu()
    sign = uniform(g, (table.shape[1],), -1, 1).sign()
    step = number(g, 0.5, 1.0) * table.std(0) * sign
    moved = step.view(data.shape)

    def change(x: Tensor) -> Tensor:
        return x + moved.to(x)

    return Trigger(change)


def _above(data: Dataset, g: torch.Generator) -> Tensor:
    """Draws a value for each feature, (d,): a tenth to a half of its range above its largest."""
    table = data.x.flatten(1).cpu()
    high = table.amax(0)
    return high + number(g, 0.1, 0.5) * (high - table.amin(0))


def _set(data: Dataset, chosen: Tensor, values: Tensor) -> Change:
    """Returns the change that sets the features `chosen` to their entries of `values`, (d,)."""
    mask = torch.zeros(len(values), dtype=torch.float64)
    mask[chosen] = 1
    return laid_over(values.view(data.shape), mask.view(data.shape))
