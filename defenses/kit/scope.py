"""Which training rows a point's influences are compared among: those of its label, or all."""

from torch import Tensor

from poisonbench.contracts.scope import Scope


def in_scope(
    influence: Tensor,
    label: Tensor,
    train_labels: Tensor,
    scope: Scope,
) -> Tensor:
    """Returns the influences of the rows in scope, (r, k).

    Args:
        influence: (r, n), of points that are predicted as `label`.
        label: (), int64.
        train_labels: (n,) int64.
        scope: "label": rows that carry the label; "all": every row.
    """
    if scope == "all":
        return influence
    return influence[:, train_labels == label]
