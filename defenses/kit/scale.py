"""Robust scales of the rows of a tensor: Qn (Rousseeuw & Croux, JASA 1993) and the median absolute deviation.

Cost: of Qn O(n log n) a count and 31 (float32) or 63 (float64) counts a row, O(n) memory: never the n^2 differences.
"""

import torch
from torch import Tensor

# both make the scale consistent for the standard deviation of a normal distribution
QN_FACTOR = 2.219144465985076  # 1 / (sqrt(2) Phi^-1(5/8))
MAD_FACTOR = 1.482602218505602  # 1 / Phi^-1(3/4)
_BITS = {torch.float32: torch.int32, torch.float64: torch.int64}
_BLOCK = {
    "cpu": 1 << 16,
    "cuda": 1 << 24,
}  # values at a time: what stays in the cache, what fills the device


def median(values: Tensor) -> Tensor:
    """Returns the median of each row of `values` (..., n), (...): for even n the mean of the two middle values."""
    n = values.shape[-1]
    ordered = values.sort(-1).values
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def mad(values: Tensor) -> Tensor:
    """Returns 1.4826 times the median absolute deviation from the median of each row of `values` (..., n), (...)."""
    return MAD_FACTOR * median((values - median(values).unsqueeze(-1)).abs())


def qn(values: Tensor) -> Tensor:
    """Returns Qn = 2.2191 d_(k) of each row: d_(k) the k-th smallest of the n(n-1)/2 distances, k = h(h-1)/2, h = n//2 + 1.

    Without the corrections for small n. Exact: d_(k) is one of the distances, as they round in the dtype of `values`.

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
    blocks = rows.split(max(1, _BLOCK.get(values.device.type, 1 << 16) // n))
    return (QN_FACTOR * torch.cat([_distance(block.sort(-1).values) for block in blocks])).view(
        values.shape[:-1]
    )


def _distance(x: Tensor) -> Tensor:
    """Returns d_(k) of each ascending row of x (r, n): the least t that at least k pairs do not exceed."""
    n = x.shape[1]
    h = n // 2 + 1
    k = h * (h - 1) // 2
    start = torch.arange(n, device=x.device).expand_as(x)
    least, most = start, torch.full_like(start, n - 1)
    # non-negative floats are ordered as their bits are, so halving an interval of bits ends on one float
    high = (x[:, -1:] - x[:, :1]).view(_BITS[x.dtype])
    low = torch.zeros_like(high)
    while bool((low < high).any()):
        middle = low + (high - low) // 2
        reach = _reach(x, middle.view(x.dtype), least, most)
        enough = (reach - start).sum(1, keepdim=True) >= k
        low, high = torch.where(enough, low, middle + 1), torch.where(enough, middle, high)
        least, most = torch.where(enough, least, reach), torch.where(enough, reach, most)
    return high.view(x.dtype).squeeze(1)


def _reach(x: Tensor, t: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """Returns the last j with x_j - x_i <= t for every i, (r, n), known to lie between `least` and `most`; t is (r, 1)."""
    for power in reversed(range(int((most - least).max()).bit_length())):
        ahead = least + (1 << power)
        # the predicate itself, as it rounds: x_i + t could round across a value
        within = (x.gather(1, ahead.clamp(max=x.shape[1] - 1)) - x <= t) & (ahead <= most)
        least = torch.where(within, ahead, least)
    return least
