"""Shapley values by sampling permutations (Castro et al. 2009), truncated, in strides.

Truncation: Ghorbani & Zou 2019, arXiv 1904.02868. Any game v: subsets of players -> m numbers.

Cost: one value of v a prefix, and O(m (n + c)) a permutation of c prefixes.

**Strides.** A permutation need not be asked at every prefix. Let size k be among its cuts with
probability p_k, whatever the order, and let the players of a block B between two cuts k < k' share
what the block adds. In expectation i then has
(1/n) (v(D) - v(empty)) + (1/n) sum_k p_k d_k(i), with d_k(i) the mean of v over the subsets of size
k with i minus that over those without: given that i is in the last block of a prefix, the prefix is
uniform among the subsets of its size with i, and the prefix before it among those without. phi_i is
the same sum with p_k = 1. So, with v at a cut counted 1/p_k times,

    (v' - v + (1/p' - 1) (v' - l') - (1/p - 1) (v - l)) / |B|,    v = v(S_k), v' = v(S_k'),

is unbiased for any strides and any level l_k that does not depend on the permutation, sums to
v(D) - v(empty) over the players of every permutation, and is the marginal contribution itself where
p = 1. What strides cost is variance, from the players that a block is shared with; what they save
is values of v. Where values are about as noisy as those of models trained on other data, a
permutation has a variance of (2/n) sum_k var v(S_k) whatever its strides, so that long ones are the
better bargain, and those that grow with the prefix, as a model costs as much as it has instances.
(Only towards D must they become shorter again: few players are missing there, and each would get a
cut's whole weight.)
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from estimators.shapley.walks import Round, Walk


def fill(
    round_: Round,
    values: Iterable[Tensor],
    empty: Tensor,
    full: Tensor,
    tolerance: float,
) -> Tensor:
    """Returns v at all cuts, (R, c + 2, m) float64; v(D) where nothing was asked.

    Args:
        round_: the walk, and what was asked.
        values: (k, m) of each call.
        empty: (m,) v(empty).
        full: (m,) v(D).
        tolerance: as in `follow`.
    """
    cuts = round_.walk.cuts
    whole = full.double()
    m = len(whole)
    flat = whole.expand(cuts.numel(), m).clone()
    for places, found in zip(round_.visits, values, strict=True):
        flat[places.to(flat.device)] = found.double()
    table = flat.view(*cuts.shape, m)
    table[:, 0] = empty.double()
    return _truncated(table, whole, tolerance)


def _truncated(table: Tensor, whole: Tensor, tolerance: float) -> Tensor:
    """Returns v at the cuts with v(D) from the first prefix on that is within the tolerance of it.

    A column's later marginal contributions are then 0, and what it has still to gain, less than the
    tolerance, falls to the block that came there.

    Args:
        table: (R, c + 2, m), changed in place.
        whole: (m,) v(D).
        tolerance: as in `follow`.
    """
    prefixes = table[:, 1:]
    close = (prefixes - whole).abs() < tolerance
    reached = close.cumsum(1) > 0
    table[:, 1:] = torch.where(reached, whole, prefixes)
    return table


def levels(walk: Walk, table: Tensor) -> Tensor:
    """Returns l at the cuts, (R, c + 2, m): the mean of v over the same cut of the other pairs.

    With a single pair it is a line from v(empty) to v(D).

    Args:
        walk: R permutations.
        table: (R, c + 2, m), v at the cuts.
    """
    pairs = table.unflatten(0, (-1, 2))
    if len(pairs) == 1:
        players = walk.ranks.shape[1]
        lengths = walk.cuts.to(table)
        way = lengths[:, :, None] / players
        start = table[:, :1]
        end = table[:, -1:]
        return start + way * (end - start)
    everything = pairs.sum((0, 1))
    own = pairs.sum(1)
    count = 2 * len(pairs) - 2
    others: Tensor = (everything - own) / count
    return others.repeat_interleave(2, 0)


def contributions(walk: Walk, table: Tensor) -> Tensor:
    """Returns what each member of a block gets, (R, c + 1, m); see the head of this file.

    Args:
        walk: R permutations.
        table: (R, c + 2, m), v at the cuts.
    """
    certain = walk.p.new_ones(1)  # both ends are always cuts
    p = torch.cat([certain, walk.p, certain])
    extra = 1 / p - 1
    at_cuts = extra[walk.cuts].to(table)
    off = table - levels(walk, table)
    counted = table + at_cuts[:, :, None] * off
    lengths = walk.cuts.diff(dim=1).clamp(min=1)
    members = lengths.to(table)[:, :, None]
    shares: Tensor = counted.diff(dim=1) / members
    return shares
