"""How heavy the tail of a point's influences is: scores of the largest among the rest."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.kit.scale import Scale, check_scale, median, scale_of
from defenses.kit.scope import in_scope
from poisonbench.checks import check_at_least
from poisonbench.contracts.scope import Scope


def check_tail(k: int, scale: str) -> None:
    """Raises ValueError for a k below 1 or an unknown scale."""
    check_at_least("k", k, 1)
    check_scale(scale)


@dataclass(frozen=True, eq=False)
class Spread:
    """By what values are standardised: (v - middle) / width.

    Attributes:
        middle: (r,), the median of each row.
        width: (r,), its robust scale; above 0.
    """

    middle: Tensor
    width: Tensor

    def take(self, rows: Tensor) -> "Spread":
        """Returns that of some rows, a mask (r,) or indices."""
        return Spread(self.middle[rows], self.width[rows])


def standardised(rows: Tensor, scale: Scale) -> Tensor:
    """Returns (v - median) / scale for each row v of (r, n), (r, n); see `spread_by`."""
    return standardised_by(rows, rows, scale)


def standardised_by(rows: Tensor, reference: Tensor, scale: Scale) -> Tensor:
    """Returns (v - median w) / scale w for rows v (r, n) and w of `reference` (r, k), (r, n)."""
    its = spread_by(rows, reference, scale)
    apart = rows - its.middle.unsqueeze(1)
    return apart.div_(its.width.unsqueeze(1))


def spread_by(rows: Tensor, reference: Tensor, scale: Scale) -> Spread:
    """Returns the median and the scale of rows of `reference` (r, k), for rows of (r, n).

    Where the scale is 0, more than half of the values tie; it is floored at the dtype's epsilon of
    the largest deviation of the row from the median, with a warning; 1 for a constant row.
    """
    middle = median(reference)
    width = scale_of(reference, scale)
    above = rows.amax(1) - middle
    below = middle - rows.amin(1)
    floor = torch.maximum(above, below) * torch.finfo(rows.dtype).eps
    tied = width <= floor
    count = int(tied.sum())
    if count:
        warnings.warn(
            f"more than half of the values tie in {count} of {len(rows)} rows: scale 0, floored",
            stacklevel=3,
        )
    width = torch.where(tied, floor, width)
    return Spread(middle, width.masked_fill(width == 0, 1))


def tails(rows: Tensor, k: int, spread: Spread) -> Tensor:
    """Returns the k-th largest standardised value of each row of (r, n), (r,).

    NaN, with a warning, where n is below k or 2.
    """
    n = rows.shape[1]
    least = max(k, 2)
    if n < least:
        warnings.warn(
            f"a tail of k = {k} needs {least} training rows, there are {n}: no score",
            stacklevel=2,
        )
        return rows.new_full((len(rows),), torch.nan)
    largest = rows.topk(k).values[:, -1]
    return (largest - spread.middle) / spread.width


def tail_place(k: int, share: float, count: int) -> int:
    """Returns which of the largest of `count` values is a tail: the k-th, or a share of them."""
    return max(k, round(share * count))


@dataclass(frozen=True, eq=False)
class Scoped:
    """The values of some points, each on the training rows in scope.

    Attributes:
        values: (m, n), of the points finite in scope.
        points: (k,) int64, which of the m.
        labels: (k,) int64, their predicted labels.
        train_labels: (n,) int64.
        scope: "label": rows that carry the label of the point; "all": every row.
    """

    values: Tensor
    points: Tensor
    labels: Tensor
    train_labels: Tensor
    scope: Scope

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields places among the points, (b,), and the values of these in scope, (b, r)."""
        return in_scope(
            values=self.values,
            points=self.points,
            labels=self.labels,
            train_labels=self.train_labels,
            scope=self.scope,
        )

    def spread(self, scale: Scale) -> Spread:
        """Returns the spread of each point's values, (k,); NaN of fewer than two."""
        nothing = self.values.new_full((len(self.points),), torch.nan)
        found = Spread(nothing, nothing.clone())
        for places, rows in self.parts():
            if rows.shape[1] < 2:
                continue
            part = spread_by(rows, rows, scale)
            found.middle[places] = part.middle
            found.width[places] = part.width
        return found

    def tails(self, k: int, spread: Spread, share: float = 0.0) -> Tensor:
        """Returns the tail of each point's values, (k,).

        Args:
            k: which of the largest.
            spread: of these values.
            share: of the rows in scope, to which k rises.
        """
        scores = self.values.new_empty(len(self.points))
        for places, rows in self.parts():
            place = tail_place(k, share, rows.shape[1])
            scores[places] = tails(rows, place, spread.take(places))
        return scores
