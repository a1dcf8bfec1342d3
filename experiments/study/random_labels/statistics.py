"""What is read from rows of influence: how much is a point's own, how few rows carry it."""

import torch
from torch import Tensor

from defenses.kit.scale import median, scale_of

TAIL = 3  # which of the largest influences is the tail of a row


def own_share(
    rows: Tensor,
    own: Tensor,
) -> Tensor:
    """Returns the share of the absolute influence on a training point that is its own, (m,).

    Args:
        rows: (m, n) influence.
        own: (m,) int64, the row of the training set that each point is.
    """
    mine = rows.gather(1, own[:, None]).squeeze(1)
    return mine / rows.abs().sum(1)


def own_first(
    rows: Tensor,
    own: Tensor,
) -> Tensor:
    """Returns 1 where a training point's own row is its most influential, else 0, (m,)."""
    return (rows.argmax(1) == own).double()


def next_by_own(
    rows: Tensor,
    own: Tensor,
) -> Tensor:
    """Returns the largest influence of another row by that of a point's own, (m,)."""
    place = own[:, None]
    mine = rows.gather(1, place).squeeze(1)
    others = rows.scatter(1, place, -torch.inf)
    return others.max(1).values / mine


def proponents(rows: Tensor) -> Tensor:
    """Returns the effective number of proponents, (sum v)^2 / sum v^2 over positive v, (m,).

    k equal proponents count k; NaN without any.
    """
    positive = rows.double().clamp(min=0)
    largest = positive.amax(1, keepdim=True)
    scaled = positive / largest  # squares of tiny influences would vanish
    return scaled.sum(1) ** 2 / (scaled**2).sum(1)


def positive_share(rows: Tensor) -> Tensor:
    """Returns the share of the absolute influence that is positive, (m,); .5 is balance."""
    return rows.clamp(min=0).sum(1) / rows.abs().sum(1)


def heaviness(
    rows: Tensor,
    labels: Tensor,
    train_labels: Tensor,
) -> Tensor:
    """Returns the `TAIL`-th largest influence of rows with a point's label, (m,).

    It is standardised by their median and Qn, as the detector `tail-heaviness` does; NaN where
    more than half of them tie.

    Args:
        rows: (m, n).
        labels: (m,) int64, of the points.
        train_labels: (n,) int64.
    """
    found = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    for label in labels.unique():
        points = labels == label
        among = rows[points][:, train_labels == label].double()
        if among.shape[1] < TAIL:
            continue
        tail = among.topk(TAIL).values[:, -1]
        width = scale_of(among, "qn")
        heavy = (tail - median(among)) / width
        found[points] = torch.where(width > 0, heavy, torch.nan)
    return found


def agreement(
    one: Tensor,
    other: Tensor,
) -> Tensor:
    """Returns Spearman's correlation of two estimators' rows, (m,); NaN of constant rows."""
    a = _ranks(one)
    b = _ranks(other)
    a = a - a.mean(1, keepdim=True)
    b = b - b.mean(1, keepdim=True)
    correlation: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    return correlation


def _ranks(rows: Tensor) -> Tensor:
    """Returns the rank of each value in its row, the mean of those that tie, (m, n)."""
    found = torch.empty(rows.shape, dtype=torch.float64)
    for k, row in enumerate(rows):
        _, place, counts = row.unique(return_inverse=True, return_counts=True)
        last = counts.cumsum(0)
        middle = last - (counts - 1) / 2
        found[k] = middle[place]
    return found
