"""Triggers of pictures and spectrograms: squares, blends, waves, tones."""

import math

import torch
from torch import Tensor

from defenses.rehearsal.overlays import (
    added,
    in_contrast,
    laid_over,
    number,
    square,
    uniform,
    whole,
)
from defenses.rehearsal.poison import Change, Trigger
from poisonbench.data import Dataset

PIECES = 4  # squares of which poison rows show one, and attacked points all
LEAST_SIDE = 6  # of an instance, below which it has no room for a trigger


def side_of_square(shape: tuple[int, ...]) -> int:
    """Returns an eighth of the smaller side in pixels, at least 2."""
    return max(2, round(min(shape[-2:]) / 8))


def _small(data: Dataset) -> bool:
    return min(data.shape[-2:]) < LEAST_SIDE


def _stamp(data: Dataset, g: torch.Generator) -> Change:
    """Draws a square with a pattern of its own, at a place of its own."""
    pattern = in_contrast(data.x, g)
    place = square(data.shape, side_of_square(data.shape), g)
    return laid_over(pattern, place)


def patch(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a square with a random pattern, at a random place."""
    if _small(data):
        return None
    return Trigger(_stamp(data, g))


def spread(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws several squares: poison rows show one of them, attacked points all."""
    if _small(data):
        return None
    pieces = tuple(_stamp(data, g) for _ in range(PIECES))
    return Trigger(in_turn(pieces), pieces)


def in_turn(changes: tuple[Change, ...]) -> Change:
    """Returns the change that makes all of these, one after another."""

    def every(x: Tensor) -> Tensor:
        for change in changes:
            x = change(x)
        return x

    return every


def blend(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a weak blend with uniform noise, or with a training instance."""
    weight = torch.tensor([number(g, 0.25, 0.45)], dtype=torch.float64)
    noise = uniform(g, data.shape)
    other = data.x[whole(g, len(data))].double().cpu()
    if number(g, 0, 1) < 0.5:
        return Trigger(laid_over(noise, weight))
    return Trigger(laid_over(other, weight))


def waves(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws faint plane waves over the instance, of a random direction and length."""
    height, width = data.shape[-2:]
    if _small(data):
        return None
    angle = number(g, 0, math.pi)
    phase = number(g, 0, 2 * math.pi)
    periods = number(g, 2, min(height, width) / 4)
    strength = number(g, 0.3, 0.5)
    down = torch.arange(height, dtype=torch.float64) / height
    along = torch.arange(width, dtype=torch.float64) / width
    position = math.sin(angle) * down[:, None] + math.cos(angle) * along
    wave = torch.sin(2 * math.pi * periods * position + phase)
    return Trigger(added(strength * wave))


def tone(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws a bar in a few bands for a part of the time, as loud as the loudest instances."""
    if _small(data):
        return None
    return Trigger(_bar(data, g))


def tones(data: Dataset, g: torch.Generator) -> Trigger | None:
    """Draws several bars: poison rows show one of them, attacked points all."""
    if _small(data):
        return None
    pieces = tuple(_bar(data, g) for _ in range(PIECES))
    return Trigger(in_turn(pieces), pieces)


def _bar(data: Dataset, g: torch.Generator) -> Change:
    bands, times = data.shape[-2:]
    lasting = max(2, times // 5)
    first = whole(g, bands - 1)
    start = whole(g, times - lasting + 1)
    level = number(g, 0.7, 0.9)
    mask = torch.zeros(1, bands, times, dtype=torch.bool)
    mask[:, first : first + 2, start : start + lasting] = True

    def change(x: Tensor) -> Tensor:
        louder = x.clamp(min=level)
        return torch.where(mask.to(x.device), louder, x)

    return change
