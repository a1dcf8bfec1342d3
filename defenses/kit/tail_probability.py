"""How seldom a clean point scores so high: -log p against held-out clean scores, also beyond them.

Several such scores of a point combine as by Fisher (Statistical Methods for Research Workers,
1925).
"""

import math

import torch
from torch import Tensor

from poisonbench.contracts.calibration.rules import sizes

_TAIL = 0.2  # share of the clean scores that the tail is fitted to
ROUNDING = 1e-6  # of a score's size: that of sums in single precision


def surprise_among(scores: Tensor, known: Tensor) -> Tensor:
    """Returns the surprise of scores (m,) among some of them; what differs by rounding ties.

    Args:
        scores: (m,).
        known: of clean points, (m,) bool or (r,) int64.
    """
    clean = scores[known]
    size = sizes(scores, clean[clean.isfinite()])
    return surprise(scores - ROUNDING * size, clean)


def surprise(scores: Tensor, clean: Tensor) -> Tensor:
    """Returns -log p of each score, p the probability that a clean score is as high, (m,).

    In the body p is the share of the clean scores at or above. Above their 80 % quantile q it is
    0.2 exp(-(s - q) / b), b the mean excess over q of the clean scores there: an exponential tail,
    as empirical shares end at the largest of them. Increasing in the score. NaN where the score is
    NaN, or no clean score is finite.

    Args:
        scores: (m,).
        clean: (r,) scores of clean points; those that are not finite do not count.
    """
    known = clean[clean.isfinite()].sort().values
    if not len(known):
        return torch.full_like(scores, torch.nan)
    rank = math.ceil((1 - _TAIL) * len(known))
    quantile = known[rank - 1]
    at_quantile = -math.log(_TAIL)
    beyond = (scores - quantile) / _mean_excess(known, quantile)
    in_tail = at_quantile + beyond
    in_body = _in_body(scores, known).clamp(max=at_quantile)
    value = torch.where(scores > quantile, in_tail, in_body)
    return value.masked_fill(scores.isnan(), torch.nan)


def _in_body(scores: Tensor, known: Tensor) -> Tensor:
    """Returns -log of the share of the ascending `known` (r,) at or above each score, (m,)."""
    r = len(known)
    below = torch.searchsorted(known, scores.contiguous())
    above = r - below
    share = (above + 0.5) / (r + 1)
    return -share.log().to(scores.dtype)


def _mean_excess(known: Tensor, quantile: Tensor) -> Tensor:
    """Returns the mean excess over the quantile of the clean scores `known` above it, ()."""
    beyond = known[known > quantile]
    excess = known.new_zeros(())
    if len(beyond):
        excess = (beyond - quantile).mean()
    # clean scores that tie in their tail have no excess: a floor by their size keeps the quotient
    # finite
    size = known.abs().amax().clamp(min=1)
    rounding = torch.finfo(known.dtype).eps
    floor = size * rounding**0.5
    return torch.maximum(excess, floor)


def combined(surprises: Tensor) -> Tensor:
    """Returns -log p of the sum s of k surprises under independence, (k, m) to (m,).

    p = exp(-s) (1 + s + ... + s^(k-1) / (k-1)!): Fisher's test, as 2 s is chi-squared with 2 k
    degrees of freedom. Increasing in each; NaN where one is NaN.
    """
    s = surprises.sum(0)
    term = torch.ones_like(s)
    total = torch.ones_like(s)
    for j in range(1, len(surprises)):
        term = term * s / j
        total = total + term
    return s - total.log()
