"""The square of pixels that several attacks stamp on images: its side, its places, the stamp."""

from typing import Literal, get_args

import torch
from torch import Tensor

from attacks.kit.hashing import hashed
from poisonbench.checks import check_at_least, check_choice, check_unit
from poisonbench.errors import ConfigError

Place = Literal[
    "top-left",
    "top-right",
    "bottom-left",
    "bottom-right",
    "centre",
    "corners",
    "random",
]
PLACES: tuple[str, ...] = get_args(Place)
CORNERS: tuple[Place, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")
SMALL = 16  # pixels along a side, below which squares are smaller by default
BLOCK = 1024  # images hashed at a time: the hash takes eight bytes per pixel


def default_side(size: int | None, shape: tuple[int, ...]) -> int:
    """Returns `size`, or where it is None 3, or 2 on images of `shape` with a side below 16."""
    if size is not None:
        return size
    if min(shape[-2:]) < SMALL:
        return 2
    return 3


def side(size: int | None, shape: tuple[int, ...]) -> int:
    """Returns the side s of the square on images of `shape` (..., height, width).

    Raises:
        ConfigError: the square does not fit.
    """
    height, width = shape[-2:]
    most = min(height, width)
    s = default_side(size, shape)
    if s > most:
        rule = f"size must be at most {most} on images of {height}x{width}"
        raise ConfigError([f"{rule}, got {s}"])
    return s


def square(shape: tuple[int, ...], size: int | None, place: Place) -> Tensor:
    """Returns (height, width) bool: the pixels of the square at a place, or at all corners."""
    if place == "corners":
        squares = [square(shape, size, corner) for corner in CORNERS]
        return torch.stack(squares).any(0)
    height, width = shape[-2:]
    s = side(size, shape)
    top = _offset(place, "top", "bottom", height - s)
    left = _offset(place, "left", "right", width - s)
    mask = torch.zeros(height, width, dtype=torch.bool)
    rows = slice(top, top + s)
    columns = slice(left, left + s)
    mask[rows, columns] = True
    return mask


def _offset(
    place: Place,
    first: str,
    last: str,
    room: int,
) -> int:
    """Returns the pixels before the square along a side that has `room` more than the square."""
    if first in place:
        return 0
    if last in place:
        return room
    return room // 2


def _scattered(x: Tensor, size: int | None, seed: int) -> Tensor:
    """Returns (k, 1, height, width) bool: per image a square at a place of its own."""
    height, width = x.shape[-2:]
    s = side(size, x.shape)
    down = height - s + 1
    across = width - s + 1
    pixels = (x * 255).round().long()
    place = hashed(pixels, seed) % (down * across)
    top = (place // across).view(-1, 1, 1, 1)
    left = (place % across).view(-1, 1, 1, 1)
    row = torch.arange(height, device=x.device).view(-1, 1)
    column = torch.arange(width, device=x.device)
    return _within(row, top, s) & _within(column, left, s)


def _within(pixel: Tensor, first: Tensor, s: int) -> Tensor:
    """Returns where a pixel's row or column is one of the s from the first on."""
    return (pixel >= first) & (pixel < first + s)


def stamp(
    x: Tensor,
    size: int | None,
    place: Place,
    value: float,
    seed: int = 0,
) -> Tensor:
    """Returns a copy of x, (k, channels, height, width), with the square set to `value`.

    The seed only moves random places.

    Raises:
        ConfigError: the square does not fit.
    """
    if place == "random":
        masks = [_scattered(part, size, seed) for part in x.split(BLOCK)]
        mask = torch.cat(masks)
    else:
        mask = square(x.shape, size, place).to(x.device)
    return x.masked_fill(mask, value)


class Stamping:
    """The three fields that attacks with one square share; each attack spells them out.

    Attributes:
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square.
        value: of the square's pixels, in all channels.
    """

    size: int | None
    place: Place
    value: float
    places: tuple[str, ...] = PLACES

    def check_square(self) -> None:
        """Raises ValueError unless the three fields are in their ranges."""
        check_at_least("size", self.size, 1)
        check_choice("place", self.place, self.places)
        check_unit("value", self.value)

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:
        """Returns a copy of x, (k, channels, height, width), with the square stamped.

        The seed only moves random places.

        Raises:
            ConfigError: the square does not fit.
        """
        return stamp(x, self.size, self.place, self.value, seed)


class StampingOnTop(Stamping):
    """A square on top of rows that are changed within eps.

    It lies at a known place, so that eps is checked everywhere else.
    """

    places = tuple(place for place in PLACES if place != "random")

    def covered(self, shape: tuple[int, ...]) -> Tensor:
        """Returns a bool mask of `shape`: the pixels of the square, which eps does not bound."""
        return square(shape, self.size, self.place).expand(shape)
