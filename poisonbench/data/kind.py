"""The kinds of data: what each allows, and the layout of instances that a model is built for."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poisonbench.roles import PAD as PAD
from poisonbench.roles import UNKNOWN as UNKNOWN

KindName = Literal["image", "vector", "tokens", "spectrogram"]


@dataclass(frozen=True)
class Kind:
    """What instances of a kind are.

    Attributes:
        name: as in `Dataset.kind`.
        about: one line for people.
        axes: of one instance; None for any number.
        one_shape: what brings instances of two sets to one shape.
        whole: whether x holds whole numbers (token ids, int64) and no floating point.
        unit: whether values lie in [0, 1].
        flips: whether a mirrored instance is one of the same class.
    """

    name: KindName
    about: str
    axes: int | None
    one_shape: str
    whole: bool = False
    unit: bool = False
    flips: bool = False


KINDS: dict[str, Kind] = {
    "image": Kind(
        "image",
        "pictures (channels, height, width) in [0, 1]",
        axes=3,
        one_shape="by the same resizing",
        unit=True,
        flips=True,
    ),
    "vector": Kind(
        "vector",
        "numbers as they are, such as rows of a table",
        axes=None,
        one_shape="by the same features in the same order",
    ),
    "tokens": Kind(
        "tokens",
        "sentences as (length,) token ids, int64; 0 pads",
        axes=1,
        one_shape="by padding (id 0) or cutting all sentences alike",
        whole=True,
    ),
    "spectrogram": Kind(
        "spectrogram",
        "sound as (channels, frequency, time) in [0, 1]",
        axes=3,
        one_shape="by the same bands, and by padding or cutting the time",
        unit=True,
    ),
}


def kind_by_shape(x: Tensor) -> KindName:
    """Returns the kind that instances x, (n, *shape), have unless another is told.

    Whole numbers are tokens, three axes an image, anything else a vector.
    """
    if not x.is_floating_point():
        return "tokens"
    return "image" if x.dim() == 4 else "vector"


def kinds_of(method: object) -> tuple[str, ...]:
    """Returns the kinds of data that a method takes: those of its `kinds`, or all without it."""
    kinds: tuple[str, ...] = getattr(method, "kinds", tuple(KINDS))
    return kinds


@dataclass(frozen=True)
class Layout:
    """What a model must know of the data to be built for them.

    Attributes:
        shape: of one instance.
        classes: number of classes C.
        kind: a key of `KINDS`.
        vocabulary: number of token ids, 0 for other kinds.
    """

    shape: tuple[int, ...]
    classes: int
    kind: KindName
    vocabulary: int = 0

    def __str__(self) -> str:
        """Says it in words."""
        told = f"of kind {self.kind} and shape {self.shape} in {self.classes} classes"
        if not self.vocabulary:
            return told
        return f"{told} over {self.vocabulary} token ids"

    def sample(self, rows: int, seed: int = 0) -> Tensor:
        """Returns random instances, (rows, *shape), on the CPU: float32, or int64 token ids.

        The sentences are of different lengths, so that padding occurs.
        """
        g = torch.Generator().manual_seed(seed)
        size = (rows, *self.shape)
        if not KINDS[self.kind].whole:
            return torch.rand(size, generator=g)
        ids = torch.randint(UNKNOWN, max(self.vocabulary, 2), size, generator=g)
        length = self.shape[0]
        lengths = torch.arange(rows) % length + 1
        padded = torch.arange(length) >= lengths[:, None]
        return ids.masked_fill(padded, PAD)
