"""Tail heaviness of the influences (FIT: Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055): few rows far above the rest.

Cost: O(m n log n) for the scale; no gradient and no training.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from defenses.evidence import sound_influence, trusted_points
from defenses.scale import mad, median, qn
from poisonbench.contracts import Evidence

Scale = Literal["qn", "mad"]
SCALES: dict[str, Callable[[Tensor], Tensor]] = {"qn": qn, "mad": mad}


@dataclass(frozen=True)
class TailHeaviness:
    """The k-th largest robustly standardised influence of a probe point, a_(k) with a_i = (v_i - median v) / scale(v).

    The paper's tail is over all training rows. With many classes the whole class of a clean point is its heavy tail, so the
    default looks at the rows of the predicted label alone.

    Attributes:
        k: which of the largest; at most the size of the smallest poison set to be found.
        scale: "qn" (the paper's) or "mad".
        scope: "label": training rows whose label is the predicted one; "all": every row, the paper's form.
        standardise: "row", or "two-way": first every training row's influences are centred and scaled (median, MAD) over the
            probe points, so that rows influential for everybody do not count. That makes a score depend on the other points.
            "reference": the same over the trusted points alone, so that a score depends on no other point under judgement.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    k: int = 10
    scale: Scale = "qn"
    scope: Literal["label", "all"] = "label"
    standardise: Literal["row", "two-way", "reference"] = "row"

    def __post_init__(self) -> None:
        check_tail(self.k, self.scale)
        if self.scope not in ("label", "all"):
            raise ValueError(f"scope must be 'label' or 'all', got {self.scope!r}")
        if self.standardise not in ("row", "two-way", "reference"):
            raise ValueError(f"standardise must be 'row', 'two-way' or 'reference', got {self.standardise!r}")

    @property
    def uses(self) -> tuple[str, ...]:
        """What it reads."""
        beyond = {"row": (), "two-way": ("probe",), "reference": ("reference",)}
        return ("influence", *beyond[self.standardise])

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = a heavier tail; NaN where an influence is not finite or its label has fewer than k rows."""
        influence, sound = sound_influence(evidence)
        scores = influence.new_full((len(influence),), torch.nan)
        if not bool(sound.any()):
            return scores
        rows = influence[sound]
        if self.standardise == "two-way":
            rows = standardised(rows.T, mad).T
        elif self.standardise == "reference":
            index = trusted_points(evidence, 2)
            rows = standardised(rows.T, mad, influence[index[sound[index]]].T).T
        if self.scope == "all":
            scores[sound] = tails(rows, self.k, self.scale)
        else:
            scores[sound] = label_tails(rows, evidence.test.y[sound], evidence.trace.train.y, self.k, self.scale)
        return scores


def check_tail(k: int, scale: str) -> None:
    """Raises ValueError for a k below 1 or an unknown scale."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(map(repr, SCALES))}, got {scale!r}")


def standardised(rows: Tensor, scale: Callable[[Tensor], Tensor], by: Tensor | None = None) -> Tensor:
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
        warnings.warn(f"more than half of the values tie in {count} of {len(rows)} rows: scale 0, floored", stacklevel=2)
    widths = torch.where(tied, floor, widths)
    return centred / torch.where(widths == 0, 1, widths)


def tails(rows: Tensor, k: int, scale: str) -> Tensor:
    """Returns the k-th largest standardised value of each row of (r, n), (r,); NaN with a warning where n < max(k, 2)."""
    n = rows.shape[1]
    if n < max(k, 2):
        warnings.warn(f"a tail of k = {k} needs {max(k, 2)} training rows, there are {n}: no score", stacklevel=2)
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
