"""How heavy the tail of a point's influences is: scores of the largest among the rest."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.kit.scale import Scale, check_scale, median, scale_of
from poisonbench.checks import check_at_least


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
    return apart / its.width.unsqueeze(1)


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


def label_spread(
    values: Tensor, labels: Tensor, train_labels: Tensor, scale: Scale
) -> Spread:
    """Returns the spread of each row of `values` over the training rows with its label.

    NaN where fewer than two carry it.

    Args:
        values: (m, n) finite.
        labels: (m,) int64, the predicted label of each row.
        train_labels: (n,) int64.
        scale: "qn" or "mad".
    """
    nothing = values.new_full((len(values),), torch.nan)
    found = Spread(nothing, nothing.clone())
    for label in labels.unique():
        points = labels == label
        own = train_labels == label
        if int(own.sum()) < 2:
            continue
        among_own = values[points][:, own]
        part = spread_by(among_own, among_own, scale)
        found.middle[points] = part.middle
        found.width[points] = part.width
    return found


def label_tails(
    values: Tensor,
    labels: Tensor,
    train_labels: Tensor,
    k: int,
    spread: Spread,
    share: float = 0.0,
) -> Tensor:
    """Returns for each row of `values` its tail over the training rows that carry its label, (m,).

    Args:
        values: (m, n) finite.
        labels: (m,) int64, the predicted label of each row.
        train_labels: (n,) int64.
        k: which of the largest.
        spread: of `label_spread`.
        share: of the rows that carry the label, to which k rises.
    """
    scores = values.new_empty(len(values))
    for label in labels.unique():
        points = labels == label
        among_own = values[points][:, train_labels == label]
        place = tail_place(k, share, among_own.shape[1])
        scores[points] = tails(among_own, place, spread.take(points))
    return scores
