"""What a least-squares head sees of features, made of some rows at a time.

The features of a large training set fill much of the memory; a second table of their size is never
held.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_NUMBERS = 1 << 22  # of features that are looked at together


@dataclass(frozen=True, eq=False)
class Inputs:
    """Features shifted to mean 0, scaled to mean square norm 1, and with a constant 1.

    Mean and norm are those of the training rows; the 1 is the bias, regularised like the others.

    Attributes:
        features: (n, d), of the training rows.
        middle: (d,) float64, their mean.
        size: () float64, what they are divided by; infinite where they differ by rounding alone.
        basis: (d + 1, n), what spans the rows where they are fewer than the features; else None.
    """

    features: Tensor
    middle: Tensor
    size: Tensor
    basis: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor) -> "Inputs":
        """Returns the inputs for features (n, d)."""
        n = features.shape[0]
        d = features.shape[1]
        middle = features.new_zeros(
            d,
            dtype=torch.float64,
        )
        for part in _parts(features):
            middle += part.double().sum(0)
        middle /= n
        inputs = cls(
            features=features,
            middle=middle,
            size=_size(features, middle),
        )
        if d + 1 <= n:
            return inputs
        rows = inputs.at(features.double())
        basis = torch.linalg.qr(rows.T).Q
        return replace(inputs, basis=basis)

    @property
    def width(self) -> int:
        """How many numbers the head sees of a row, D."""
        if self.basis is not None:
            return self.basis.shape[1]
        return len(self.middle) + 1

    def at(self, features: Tensor) -> Tensor:
        """Returns the inputs for features (k, d), (k, D), in their dtype."""
        middle = self.middle.to(features)
        size = self.size.to(features)
        scaled = (features - middle) / size
        one = features.new_ones(len(features), 1)
        seen = torch.cat([scaled, one], 1)
        if self.basis is None:
            return seen
        basis = self.basis.to(features)
        return seen @ basis

    def parts(self, rows: Tensor | None = None) -> Iterator[Tensor]:
        """Yields the inputs of the training rows in order, some at a time, (b, D).

        Args:
            rows: (k,) int64, of these alone.
        """
        n = len(self.features)
        width = self.features.shape[1]
        if rows is None:
            rows = torch.arange(
                n,
                device=self.features.device,
            )
        for index in _split(rows, width):
            chosen = self.features[index]
            yield self.at(chosen)


def _split(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Returns rows of `width` numbers, some at a time."""
    step = max(1, _NUMBERS // max(1, width))
    parts: tuple[Tensor, ...] = rows.split(step)
    return parts


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    return _split(features, features.shape[1])


def _size(features: Tensor, middle: Tensor) -> Tensor:
    """Returns the root of the mean square norm of the rows without their mean, ()."""
    squares = middle.new_zeros(())
    farthest = middle.new_zeros(())
    largest = middle.new_zeros(())
    for part in _parts(features):
        values = part.double()
        apart = values - middle
        squares += apart.square().sum()
        most_apart = apart.abs().max()
        farthest = torch.maximum(farthest, most_apart)
        most = values.abs().max()
        largest = torch.maximum(largest, most)
    n = len(features)
    rounding = torch.finfo(torch.float64).eps
    floor = largest * rounding * n**0.5
    size = (squares / n).sqrt()
    return torch.where(farthest > floor, size, torch.inf)
