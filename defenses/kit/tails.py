"""How heavy the tail of a point's influences is: scores of the largest among the rest."""

import warnings

import torch
from torch import Tensor

from defenses.kit.scale import Scale, check_scale, median, scale_of
from poisonbench.checks import check_at_least


def check_tail(k: int, scale: str) -> None:
    """Raises ValueError for a k below 1 or an unknown scale."""
    check_at_least("k", k, 1)
    check_scale(scale)


def standardised(rows: Tensor, scale: Scale) -> Tensor:
    """Returns (v - median) / scale for each row v of (r, n), (r, n); see `standardised_by`."""
    return standardised_by(rows, rows, scale)


def standardised_by(rows: Tensor, reference: Tensor, scale: Scale) -> Tensor:
    """Returns (v - median w) / scale w for rows v (r, n) and w of `reference` (r, k), (r, n).

    Where the scale is 0, more than half of the values tie; it is floored at the dtype's epsilon of
    the largest deviation, with a warning, and a constant row becomes 0.
    """
    apart = rows - median(reference).unsqueeze(1)
    widths = scale_of(reference, scale).unsqueeze(1)
    largest = apart.abs().amax(1, keepdim=True)
    floor = largest * torch.finfo(rows.dtype).eps
    tied = widths <= floor
    count = int(tied.sum())
    if count:
        warnings.warn(
            f"more than half of the values tie in {count} of {len(rows)} rows: scale 0, floored",
            stacklevel=3,
        )
    widths = torch.where(tied, floor, widths)
    constant = widths == 0
    return apart / widths.masked_fill(constant, 1)


def tails(rows: Tensor, k: int, scale: Scale) -> Tensor:
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
    largest = standardised(rows, scale).topk(k).values
    return largest[:, -1]


def tail_place(k: int, share: float, count: int) -> int:
    """Returns which of the largest of `count` values is a tail: the k-th, or a share of them."""
    return max(k, round(share * count))


def label_tails(
    values: Tensor,
    labels: Tensor,
    train_labels: Tensor,
    k: int,
    scale: Scale,
    share: float = 0.0,
) -> Tensor:
    """Returns for each row of `values` its tail over the training rows that carry its label, (m,).

    Args:
        values: (m, n) finite.
        labels: (m,) int64, the predicted label of each row.
        train_labels: (n,) int64.
        k: which of the largest.
        scale: "qn" or "mad".
        share: of the rows that carry the label, to which k rises.
    """
    scores = values.new_empty(len(values))
    for label in labels.unique():
        points = labels == label
        own = train_labels == label
        among_own = values[points][:, own]
        place = tail_place(k, share, among_own.shape[1])
        scores[points] = tails(among_own, place, scale)
    return scores
