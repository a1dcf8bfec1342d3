"""Robust scales of the rows of a tensor: Qn (Rousseeuw & Croux, JASA 1993) and the MAD.

The MAD is the median absolute deviation from the median.

Cost: of Qn O(n log n) a count and 31 (float32) or 63 (float64) counts a row, O(n) memory: the n^2
differences are never written out.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from poisonbench.checks import check_choice

Scale = Literal["qn", "mad"]

# both make the scale consistent for the standard deviation of a normal distribution
QN_FACTOR = 2.219144465985076  # 1 / (sqrt(2) Phi^-1(5/8))
MAD_FACTOR = 1.482602218505602  # 1 / Phi^-1(3/4)

_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}
# values at a time: what stays in the cache, what fills the device
_BLOCK = {"cpu": 1 << 16, "cuda": 1 << 24}


def check_scale(scale: str) -> None:
    """Raises ValueError for an unknown scale."""
    check_choice("scale", scale, get_args(Scale))


def scale_of(values: Tensor, scale: Scale) -> Tensor:
    """Returns the scale of each row of `values` (..., n), (...): "qn" or "mad"."""
    if scale == "qn":
        return qn(values)
    return mad(values)


def median(values: Tensor) -> Tensor:
    """Returns the median of each row of `values` (..., n), (...).

    For even n that is the mean of the two middle values.
    """
    n = values.shape[-1]
    ordered = values.sort(-1).values
    lower = ordered[..., (n - 1) // 2]
    upper = ordered[..., n // 2]
    return (lower + upper) / 2


def mad(values: Tensor) -> Tensor:
    """Returns 1.4826 times the median absolute deviation from the median, (...).

    Args:
        values: (..., n).
    """
    middle = median(values).unsqueeze(-1)
    deviations = (values - middle).abs()
    return MAD_FACTOR * median(deviations)


def qn(values: Tensor) -> Tensor:
    """Returns Qn = 2.2191 d_(k) of each row, without the corrections for small n.

    d_(k) is the k-th smallest of the n(n-1)/2 distances, k = h(h-1)/2, h = n//2 + 1. Exact: it is
    one of the distances, as they round in the dtype of `values`.

    Args:
        values: (..., n) finite float32 or float64, n >= 2.

    Returns:
        (...), in the dtype of `values`; 0 where more than half of a row ties.

    Raises:
        ValueError: n < 2, or another dtype.
    """
    n = values.shape[-1]
    if n < 2:
        raise ValueError(f"Qn needs at least 2 values, got {n}")
    if values.dtype not in _BITS:
        raise ValueError(f"Qn works on float32 and float64, got {values.dtype}")
    rows = values.reshape(-1, n)
    room = _BLOCK.get(values.device.type, 1 << 16)
    blocks = rows.split(max(1, room // n))
    distances = []
    for block in blocks:
        ascending = block.sort(-1).values
        distances.append(_order_statistic(ascending))
    scales = QN_FACTOR * torch.cat(distances)
    return scales.view(values.shape[:-1])


def _order_statistic(x: Tensor) -> Tensor:
    """Returns d_(k) of each ascending row of x (r, n), (r,).

    That is the least t that at least k pairs do not exceed, found by halving.
    """
    n = x.shape[1]
    h = n // 2 + 1
    k = h * (h - 1) // 2
    place = torch.arange(n, device=x.device)
    start = place.expand_as(x)
    least = start
    most = torch.full_like(start, n - 1)
    first = x[:, :1]
    last = x[:, -1:]
    widest = last - first
    # non-negative floats are ordered as their bits are: halving an interval of bits ends on a float
    high = widest.view(_BITS[x.dtype])
    low = torch.zeros_like(high)
    while bool((low < high).any()):
        middle = low + (high - low) // 2
        t = middle.view(x.dtype)
        reach = _reach(
            x=x,
            t=t,
            least=least,
            most=most,
        )
        pairs = (reach - start).sum(1, keepdim=True)
        enough = pairs >= k
        low = torch.where(enough, low, middle + 1)
        high = torch.where(enough, middle, high)
        least = torch.where(enough, least, reach)
        most = torch.where(enough, reach, most)
    return high.view(x.dtype).squeeze(1)


def _reach(
    x: Tensor,
    t: Tensor,
    least: Tensor,
    most: Tensor,
) -> Tensor:
    """Returns the last j with x_j - x_i <= t for every i, (r, n).

    Args:
        x: (r, n), ascending rows.
        t: (r, 1).
        least: (r, n), between which
        most: and this, (r, n), the answer is known to lie.
    """
    last = x.shape[1] - 1
    widest = int((most - least).max())
    for power in reversed(range(widest.bit_length())):
        ahead = least + (1 << power)
        # the predicate itself, as it rounds: x_i + t could round across a value
        reached = x.gather(1, ahead.clamp(max=last))
        within = (reached - x <= t) & (ahead <= most)
        least = torch.where(within, ahead, least)
    return least
