"""The largest few of many values, by the largest of each group of them."""

import torch
from torch import Tensor

_GROUP = 32


def largest(values: Tensor, k: int) -> Tensor:
    """Returns where the k largest values of each row of (b, n) are, (b, k) int64, largest first.

    All of them lie in the k groups of neighbouring columns whose largest values are the largest, so
    that only these are put in order.

    Args:
        values: (b, n).
        k: at most n.
    """
    n = values.shape[1]
    groups = n // _GROUP
    if groups <= 2 * k:
        return values.topk(k).indices
    inside = groups * _GROUP
    whole = values[:, :inside]
    by_group = whole.unflatten(1, (groups, _GROUP))
    best = by_group.amax(2).topk(k).indices
    place = torch.arange(_GROUP, device=values.device)
    first = best[:, :, None] * _GROUP
    columns = (first + place).flatten(1)
    outside = torch.arange(
        inside,
        n,
        device=values.device,
    )
    beyond = outside.expand(len(values), -1)
    asked = torch.cat([columns, beyond], 1)
    found = values.gather(1, asked)
    order = found.topk(k).indices
    return asked.gather(1, order)
