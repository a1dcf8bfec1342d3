"""Semivalues from random subsets, each of which serves all players: Beta(alpha, beta)-Shapley.

Source: Kwon & Zou, AISTATS 2022, arXiv 2110.14049, by importance sampling of the subset size.

Any game v: subsets of players -> m numbers. A semivalue weighs a player's marginal contributions by
the number k of the others, phi_i = sum_k w_k E[v(S + i) - v(S) | |S| = k, i not in S], k = 0..n-1.
With A_k(i) and B_k(i) the means of v over the subsets of size k with and without i, and mu_k over
all, that is
phi_i = w_{n-1} v(D) - w_0 v(empty)
        + sum_{k=1}^{n-1} (w_{k-1} - w_k) mu_k + c_k (A_k(i) - B_k(i)),
c_k = w_{k-1} (1 - k/n) + w_k k/n: sums over subsets alone, each of them with or without i.

Cost: as many values of v as subsets, for all players together; the estimate is a product of (m, K)
and (K, n).
"""

import torch
from torch import Tensor, lgamma

from estimators.shapley.strides import growing

Estimate = tuple[Tensor, Tensor]  # values and standard errors, each (m, n) float64

BIN = 16  # subsets of about one size whose mean is the level that their values are compared with


def beta_weights(players: int, alpha: float, beta: float) -> Tensor:
    """Returns w_k, (n,) float64, which sum to 1: the beta-binomial distribution.

    Section 3 of Kwon & Zou, w_k = C(n-1, k) B(k + beta, n - 1 - k + alpha) / B(alpha, beta); (1, 1)
    is Shapley's 1 / n.

    Args:
        players: n.
        alpha: above beta favours small subsets.
        beta: above alpha favours large ones.
    """
    k = torch.arange(players, dtype=torch.float64)
    last = torch.tensor(players - 1, dtype=torch.float64)
    a = torch.tensor(alpha, dtype=torch.float64)
    b = torch.tensor(beta, dtype=torch.float64)
    others = last - k
    choose = lgamma(last + 1) - lgamma(k + 1) - lgamma(others + 1)
    numerator = lgamma(k + b) + lgamma(others + a) - lgamma(last + a + b)
    weights = choose + numerator - lgamma(a) - lgamma(b) + lgamma(a + b)
    return weights.exp()


def contrasts(weights: Tensor) -> Tensor:
    """Returns c_k for k = 1..n-1, (n-1,), for w_k, (n,)."""
    n = len(weights)
    k = torch.arange(1, n, dtype=torch.float64)
    without = weights[:-1] * (1 - k / n)
    return without + weights[1:] * k / n


def size_distribution(weights: Tensor) -> Tensor:
    """Returns the probabilities of k = 1..n-1 at which sizes are drawn, (n-1,), for w_k, (n,).

    c_k times the frequencies of growing strides. Small subsets are the cheapest to train a model
    on, and the noisiest; the variance of v falls towards D, about as n - k.
    """
    q = contrasts(weights) * growing(len(weights))
    return q / q.sum()


def draw_sized(count: int, q: Tensor, g: torch.Generator) -> Tensor:
    """Returns `count` subsets, (count, n) bool, each uniform for its size.

    Args:
        count: of subsets.
        q: (n-1,), the probabilities of the sizes 1..n-1.
        g: of the draws.
    """
    players = len(q) + 1
    places = torch.multinomial(q, count, replacement=True, generator=g)
    sizes = places + 1
    order = torch.rand((count, players), generator=g, dtype=torch.float64)
    ranks = order.argsort(1)
    return ranks < sizes[:, None]


def draw_halves(count: int, players: int, g: torch.Generator) -> Tensor:
    """Returns `count` subsets, (count, n) bool, of players drawn with probability 1/2 each."""
    drawn = torch.rand((count, players), generator=g, dtype=torch.float64)
    return drawn < 0.5


def levels(values: Tensor, sizes: Tensor) -> Tensor:
    """Returns what subsets of about the same size have without the one at hand, (K, m).

    Subtracted, it takes the learning curve out of the variance, and adds no bias, since it does not
    depend on the subset itself.

    Args:
        values: (K, m).
        sizes: (K,).
    """
    order = sizes.argsort(stable=True)
    bins = max(1, len(order) // BIN)
    out = torch.zeros_like(values)
    for rows in order.tensor_split(bins):
        if len(rows) < 2:
            continue
        part = values[rows]
        others = part.sum(0) - part
        out[rows] = others / (len(rows) - 1)
    return out


def semivalues(
    masks: Tensor,
    values: Tensor,
    weights: Tensor,
    empty: Tensor,
    full: Tensor,
) -> Estimate:
    """Estimates a semivalue from subsets of sizes drawn from `size_distribution(weights)`.

    Args:
        masks: (K, n) bool, K >= 2.
        values: (K, m) v of each; subsets with a NaN (a model that diverged) are left out.
        weights: w_k, (n,).
        empty: (m,) v(empty).
        full: (m,) v(D).
    """
    kept = ~values.isnan().any(1)
    inside = masks.to(values.device)[kept]
    v = values[kept].double()
    w = weights.to(v.device)
    n = len(w)
    q = size_distribution(weights).to(v.device)
    c = contrasts(weights).to(q)
    sizes = inside.sum(1)
    k = sizes.double()[:, None]
    at = sizes - 1
    falling = (w[:-1] - w[1:]) / q
    contrast = c / q
    level = falling[at, None] * v
    off = contrast[at, None] * (v - levels(v, sizes))
    there = off * n / k  # what a member gets from the subset
    absent = -off * n / (n - k)  # and what the others get
    mean, error = _mean_of(
        masks=inside.double(),
        there=level + there,
        absent=level + absent,
    )
    of_all = w[-1] * full.double()
    of_none = w[0] * empty.double()
    ends = of_all - of_none
    return ends[:, None] + mean, error


def _mean_of(masks: Tensor, there: Tensor, absent: Tensor) -> Estimate:
    """Returns mean and standard error of a term over K subsets, (m, n) each.

    Args:
        masks: (K, n) float64, 1 for members.
        there: (K, m), the term of members.
        absent: (K, m), that of the others.
    """
    K = len(masks)
    mean = _total(masks, there, absent) / K
    squares = _total(masks, there**2, absent**2)
    variance = (squares / K - mean**2).clamp(min=0)
    error = (variance / (K - 1)).sqrt()
    return mean, error


def _total(masks: Tensor, there: Tensor, absent: Tensor) -> Tensor:
    """Returns the sum of the term over the subsets, (m, n); arguments as in `_mean_of`."""
    of_all = absent.sum(0)
    more = there - absent
    return more.T @ masks + of_all[:, None]
