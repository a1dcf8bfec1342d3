"""The square of pixels that several attacks stamp on images: its side, its places, and the stamp itself."""

from typing import Literal, get_args

import torch
from torch import Tensor

from poisonbench.checks import check_at_least, check_choice, check_unit
from poisonbench.errors import ConfigError
from poisonbench.seeding import generator

Place = Literal[
    "top-left", "top-right", "bottom-left", "bottom-right", "centre", "corners", "random"
]
CORNERS: tuple[Place, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")


def side(size: int | None, shape: tuple[int, ...]) -> int:
    """Returns the side s of the square on images of `shape` (..., height, width); None means 3, or 2 if one is below 16.

    Raises:
        ConfigError: the square does not fit.
    """
    height, width = shape[-2:]
    size = size or (2 if min(height, width) < 16 else 3)
    if size > min(height, width):
        raise ConfigError(
            [f"size must be at most {min(height, width)} on images of {height}x{width}, got {size}"]
        )
    return size


def square(shape: tuple[int, ...], size: int | None, place: Place) -> Tensor:
    """Returns (height, width) bool: the pixels of the square at a fixed place (of all four for "corners")."""
    (height, width), s = shape[-2:], side(size, shape)
    if place == "corners":
        return torch.stack([square(shape, size, corner) for corner in CORNERS]).any(0)
    down, right = height - s, width - s
    top, left = {
        "top-left": (0, 0),
        "top-right": (0, right),
        "bottom-left": (down, 0),
        "bottom-right": (down, right),
        "centre": (down // 2, right // 2),
    }[place]
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top : top + s, left : left + s] = True
    return mask


def _scattered(x: Tensor, size: int | None, seed: int) -> Tensor:
    """Returns (k, 1, height, width) bool: for each image a square at a place that its own pixels and the seed draw.

    The place is a hash of the pixels in 8 bits (multiply-shift, Dietzfelbinger 1996; int64 wraps), so that an image has one
    place however it is presented: alone or in a batch, in training or at test time, on any device.
    """
    (height, width), s = x.shape[-2:], side(size, x.shape)
    pixels = (x * 255).round().long().flatten(1)
    g = generator(seed, "place")
    weights, shift = (
        torch.randint(-(2**62), 2**62, (count,), generator=g).to(x.device)
        for count in (pixels.shape[1], 1)
    )
    drawn = ((pixels * weights).sum(1) + shift) >> 33 & 0x3FFFFFFF
    place = drawn % ((height - s + 1) * (width - s + 1))
    top, left = (
        part.view(-1, 1, 1, 1) for part in (place // (width - s + 1), place % (width - s + 1))
    )
    down, right = (
        torch.arange(height, device=x.device).view(-1, 1),
        torch.arange(width, device=x.device),
    )
    mask: Tensor = (down >= top) & (down < top + s) & (right >= left) & (right < left + s)
    return mask


def stamp(x: Tensor, size: int | None, place: Place, value: float, seed: int = 0) -> Tensor:
    """Returns a copy of x, (k, channels, height, width), with the square set to `value`; the seed only moves random places.

    Raises:
        ConfigError: the square does not fit.
    """
    if place == "random":
        # in blocks: the hash takes eight bytes a pixel
        masks = torch.cat([_scattered(part, size, seed) for part in x.split(1024)])
        return x.masked_fill(masks, value)
    return x.masked_fill(square(x.shape, size, place).to(x.device), value)


class Stamping:
    """What attacks with one square have alike; each is a dataclass that spells out the three fields.

    Attributes:
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square.
        value: of the square's pixels, in all channels.
    """

    size: int | None
    place: Place
    value: float
    places: tuple[str, ...] = get_args(Place)

    def check_square(self) -> None:
        """Raises ValueError unless the three fields are in their ranges."""
        check_at_least("size", self.size, 1)
        check_choice("place", self.place, self.places)
        check_unit("value", self.value)

    def trigger(self, x: Tensor, seed: int = 0) -> Tensor:
        """Returns a copy of x, (k, channels, height, width), with the square stamped; the seed only moves random places.

        Raises:
            ConfigError: the square does not fit.
        """
        return stamp(x, self.size, self.place, self.value, seed)


class StampingOnTop(Stamping):
    """A square on top of rows that are changed within eps: it lies at a known place, so that eps is checked everywhere else."""

    places = tuple(place for place in get_args(Place) if place != "random")

    def covered(self, shape: tuple[int, ...]) -> Tensor:
        """Returns a bool mask of `shape`: the pixels of the square, which eps does not bound."""
        return square(shape, self.size, self.place).expand(shape)
