"""At which prefixes a permutation is asked: strides, fixed or growing, by systematic sampling."""

import torch
from torch import Tensor

# models nearly on D are the dearest: 0 spares them and gives few heavy outliers, 1 doubles the cost
# of a permutation
TAIL = 0.1


def frequencies(players: int, stride: int | None) -> Tensor:
    """Returns the probability p_k of a cut at k = 1..n-1, (n-1,): 1 / stride, or `growing(n)`.

    Args:
        players: n.
        stride: players between two cuts; None for growing ones.
    """
    if stride is None:
        return growing(players)
    return torch.full((players - 1,), 1 / stride, dtype=torch.float64)


def growing(players: int) -> Tensor:
    """Returns min(1, 1 / k + TAIL / (n - k)) for k = 1..n-1, (n-1,).

    Strides are as long as the prefix, and shorter again close to n.
    """
    k = torch.arange(1, players, dtype=torch.float64)
    towards_all = TAIL / (players - k)
    return (1 / k + towards_all).clamp(max=1)


def cuts_at(u: Tensor, p: Tensor) -> Tensor:
    """Returns prefix lengths, ascending from 0 to n and padded with n, (R, c + 2).

    Systematic sampling: with u uniform, size k is among them with probability p_k.

    Args:
        u: (R,) in (0, 1].
        p: (n-1,), p_k <= 1 for k = 1..n-1.
    """
    n = len(p) + 1
    most = torch.ceil(p.sum() - 1e-9)
    steps = torch.arange(int(most), dtype=torch.float64)
    points = u[:, None] + steps
    reached = p.cumsum(0) * (1 + 1e-12)  # rounding must not lose the cut at an integer
    sizes = torch.searchsorted(reached, points) + 1
    inner = sizes.clamp(max=n)
    start = torch.zeros(len(u), 1, dtype=torch.int64)
    end = torch.full_like(start, n)
    return torch.cat([start, inner, end], 1)
