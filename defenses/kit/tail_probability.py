"""How seldom a clean point scores so high: -log p against held-out clean scores, beyond the largest of them too.

Several such scores of a point combine as by Fisher (Statistical Methods for Research Workers, 1925).
"""

import math

import torch
from torch import Tensor

_TAIL = 0.2  # share of the clean scores that the tail is fitted to


def surprise(scores: Tensor, clean: Tensor) -> Tensor:
    """Returns -log p of each score, p the probability that a clean score is as high, (m,).

    In the body p is the share of the clean scores at or above. Above their 80 % quantile q it is 0.2 exp(-(s - q) / b), b the
    mean excess over q of the clean scores there: an exponential tail, as empirical shares end at the largest of them.
    Increasing in the score. NaN where the score is NaN, or no clean score is finite.

    Args:
        scores: (m,).
        clean: (r,) scores of clean points; those that are not finite do not count.
    """
    known = clean[clean.isfinite()].sort().values
    if not len(known):
        return torch.full_like(scores, torch.nan)
    q = known[math.ceil((1 - _TAIL) * len(known)) - 1]
    excess = (known[known > q] - q).mean() if bool((known > q).any()) else known.new_zeros(())
    # clean scores that tie in their tail have no excess: a floor by their size keeps the quotient finite
    floor = known.abs().amax().clamp(min=1) * torch.finfo(known.dtype).eps ** 0.5
    above = len(known) - torch.searchsorted(known, scores.contiguous())
    body = -((above + 0.5) / (len(known) + 1)).log().to(scores.dtype)
    tail = -math.log(_TAIL) + (scores - q) / torch.maximum(excess, floor)
    value = torch.where(scores > q, tail, body.clamp(max=-math.log(_TAIL)))
    return value.masked_fill(scores.isnan(), torch.nan)


def combined(surprises: Tensor) -> Tensor:
    """Returns -log p of the sum of k surprises under independence, (k, m) to (m,): p = exp(-s) (1 + s + ... + s^(k-1) / (k-1)!).

    That is Fisher's test, as 2 s is chi-squared with 2 k degrees of freedom. Increasing in each; NaN where one is NaN.
    """
    s = surprises.sum(0)
    term, total = torch.ones_like(s), torch.ones_like(s)
    for j in range(1, len(surprises)):
        term = term * s / j
        total = total + term
    return s - total.log()
