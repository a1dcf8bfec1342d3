"""Which training rows a point's influences are compared among: those of its label, or all.

A matrix of influence may be as large as memory: parts of it are copied, never its whole rows for
the sake of some columns.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from defenses.kit.blocks import in_blocks
from poisonbench.contracts.scope import Scope


def among(values: Tensor, points: Tensor, rows: Tensor) -> Tensor:
    """Returns the values (m, n) of some points (k,) on some rows (r,), both int64, (k, r)."""
    return values[points[:, None], rows]


def in_scope(
    values: Tensor,
    points: Tensor,
    labels: Tensor,
    train_labels: Tensor,
    scope: Scope,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields places among the points, (b,) int64, and the values of these on their rows, (b, r).

    Args:
        values: (m, n).
        points: (k,) int64.
        labels: (k,) int64, the predicted labels of these points.
        train_labels: (n,) int64.
        scope: "label": rows that carry the label of the points, which are of one label then, and a
            label may have none; "all": every row.
    """
    if scope == "all":
        places = torch.arange(len(points), device=points.device)
        for part in in_blocks(places, values.shape[1]):
            yield part, values[points[part]]
        return
    for label in labels.unique():
        places = (labels == label).nonzero().squeeze(1)
        rows = (train_labels == label).nonzero().squeeze(1)
        for part in in_blocks(places, len(rows)):
            yield part, among(values, points[part], rows)
