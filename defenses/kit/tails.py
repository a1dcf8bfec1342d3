"""How heavy the tail of a point's influences is: scores of the largest among the rest."""

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from defenses.kit.scale import mad, median, qn

Scale = Literal["qn", "mad"]


SCALES: dict[str, Callable[[Tensor], Tensor]] = {"qn": qn, "mad": mad}


def check_tail(k: int, scale: str) -> None:
    """Raises ValueError for a k below 1 or an unknown scale."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}, got {scale!r}")


def standardised(
    rows: Tensor, scale: Callable[[Tensor], Tensor], by: Tensor | None = None
) -> Tensor:
    """Returns (v - median) / scale for each row v of (r, n), same shape; median and scale are those of the rows of `by` (r, k).

    Where the scale is 0, more than half of the values tie; it is floored at the dtype's epsilon of the largest deviation, with
    a warning, and a constant row becomes 0.
    """
    by = rows if by is None else by
    centred = rows - median(by).unsqueeze(1)
    widths = scale(by).unsqueeze(1)
    floor = centred.abs().amax(1, keepdim=True) * torch.finfo(rows.dtype).eps
    tied = widths <= floor
    if bool(tied.any()):
        count = int(tied.sum())
        warnings.warn(
            f"more than half of the values tie in {count} of {len(rows)} rows: scale 0, floored",
            stacklevel=2,
        )
    widths = torch.where(tied, floor, widths)
    return centred / torch.where(widths == 0, 1, widths)


def tails(rows: Tensor, k: int, scale: str) -> Tensor:
    """Returns the k-th largest standardised value of each row of (r, n), (r,); NaN with a warning where n < max(k, 2)."""
    n = rows.shape[1]
    if n < max(k, 2):
        warnings.warn(
            f"a tail of k = {k} needs {max(k, 2)} training rows, there are {n}: no score",
            stacklevel=2,
        )
        return rows.new_full((len(rows),), torch.nan)
    return standardised(rows, SCALES[scale]).topk(k).values[:, -1]


def label_tails(values: Tensor, labels: Tensor, train_labels: Tensor, k: int, scale: str) -> Tensor:
    """Returns for each row of `values` (m, n) its tail over the training rows that carry its label, (m,).

    Args:
        values: (m, n) finite.
        labels: (m,) int64, the predicted label of each row.
        train_labels: (n,) int64.
        k: which of the largest.
        scale: a key of `SCALES`.
    """
    scores = values.new_empty(len(values))
    for label in labels.unique():
        points = labels == label
        scores[points] = tails(values[points][:, train_labels == label], k, scale)
    return scores
