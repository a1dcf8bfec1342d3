"""Shapley values by sampling permutations (Castro et al. 2009), truncated (Ghorbani & Zou 2019, arXiv 1904.02868), in strides.

Any game v: subsets of players -> m numbers. Cost: one value of v a prefix, and O(m (n + c)) a permutation of c prefixes.

**Strides.** A permutation need not be asked at every prefix. Let size k be among its cuts with probability p_k, whatever the
order, and let the players of a block B between two cuts k < k' share what the block adds. In expectation i then has
(1/n) (v(D) - v(empty)) + (1/n) sum_k p_k d_k(i), with d_k(i) the mean of v over the subsets of size k with i minus that over
those without: given that i is in the last block of a prefix, the prefix is uniform among the subsets of its size with i, and
the prefix before it among those without. phi_i is the same sum with p_k = 1. So, with v at a cut counted 1/p_k times,

    (v' - v + (1/p' - 1) (v' - l') - (1/p - 1) (v - l)) / |B|,    v = v(S_k), v' = v(S_k'),

is unbiased for any strides and any level l_k that does not depend on the permutation, sums to v(D) - v(empty) over the players
of every permutation, and is the marginal contribution itself where p = 1. What strides cost is variance, from the players that
a block is shared with; what they save is values of v. Where values are about as noisy as those of models trained on other data,
a permutation has a variance of (2/n) sum_k var v(S_k) whatever its strides, so that long ones are the better bargain, and
those that grow with the prefix, as a model costs as much as it has instances. (Only towards D must they become shorter again:
few players are missing there, and each would get a cut's whole weight.)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

TAIL = 0.1  # models nearly on D are the dearest: 0 spares them and gives few heavy outliers, 1 doubles the cost of a permutation

Ask = Callable[[Tensor], Tensor]  # masks (K, players) bool -> values (K, m)


def frequencies(players: int, stride: int | None) -> Tensor:
    """Returns p_k for k = 1..n-1: 1 / stride, or for None `growing(n)`."""
    return (
        growing(players)
        if stride is None
        else torch.full((players - 1,), 1 / stride, dtype=torch.float64)
    )


def growing(players: int) -> Tensor:
    """Returns min(1, 1 / k + TAIL / (n - k)) for k = 1..n-1: strides as long as the prefix, shorter again close to n."""
    k = torch.arange(1, players, dtype=torch.float64)
    return (1 / k + TAIL / (players - k)).clamp(max=1)


def cuts_at(u: Tensor, p: Tensor) -> Tensor:
    """Returns prefix lengths, ascending from 0 to n and padded with n, (R, c + 2), for u, (R,), in (0, 1].

    Systematic sampling: with u uniform, size k is among them with probability p_k, (n-1,) for k = 1..n-1, p_k <= 1.
    """
    reached = p.cumsum(0)
    points = u[:, None] + torch.arange(int(torch.ceil(p.sum() - 1e-9)), dtype=torch.float64)
    inner = (
        torch.searchsorted(reached * (1 + 1e-12), points) + 1
    )  # rounding must not lose the cut at an integer
    start = torch.zeros(len(u), 1, dtype=torch.int64)
    return torch.cat([start, inner.clamp(max=len(p) + 1), torch.full_like(start, len(p) + 1)], 1)


@dataclass(frozen=True, eq=False)
class Walk:
    """R permutations and the prefixes at which they are asked; permutation 2p + 1 is 2p in reverse, cut at the same places.

    Attributes:
        ranks: (R, n) int64, the place of each player.
        cuts: (R, c + 2) int64, ascending prefix lengths from 0 to n, padded with n.
        p: (n-1,), the probability of a cut at 1..n-1.
    """

    ranks: Tensor
    cuts: Tensor
    p: Tensor

    def masks(self, places: Tensor) -> Tensor:
        """Returns the prefixes, (k, n) bool, of flat `places` in `cuts`."""
        return self.ranks[places // self.cuts.shape[1]] < self.cuts.flatten()[places, None]

    def inner(self) -> Tensor:
        """Returns (R, c + 2) bool: the cuts that are neither the empty prefix nor the whole."""
        return (self.cuts > 0) & (self.cuts < self.ranks.shape[1])


@dataclass(frozen=True, eq=False)
class Round:
    """A walk and the places that were asked, call by call; those that were not are truncated."""

    walk: Walk
    visits: tuple[Tensor, ...]


def draw(pairs: int, p: Tensor, g: torch.Generator) -> Walk:
    """Draws `pairs` permutations of n players, each followed by its reverse, and their cuts; p as for a `Walk`."""
    ranks = torch.rand((pairs, len(p) + 1), generator=g, dtype=torch.float64).argsort(1)
    cuts = cuts_at(1 - torch.rand(pairs, generator=g, dtype=torch.float64), p)
    return Walk(
        torch.stack([ranks, len(p) - ranks], 1).flatten(0, 1), cuts.repeat_interleave(2, 0), p
    )


def follow(
    walk: Walk, ask: Ask, full: Tensor, tolerance: float
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Asks for the prefixes of a walk, all permutations in step, until they are within the tolerance of v(D).

    Args:
        walk: R permutations.
        ask: the game.
        full: (m,) v(D).
        tolerance: a permutation stops where |v(D) - v(prefix)| has been below it, at this or a shorter prefix, in all m
            columns. With 0 none does, and all prefixes are asked in one call.

    Returns:
        The flat places asked in each call, and the values (k, m) of each.
    """
    inner = walk.inner()
    if not bool(inner.any()):
        return (), []
    if tolerance == 0:
        places = inner.flatten().nonzero().squeeze(1)
        return (places,), [ask(walk.masks(places))]
    rows, width = inner.shape
    close = torch.zeros((rows, len(full)), dtype=torch.bool)
    visits, values = [], []
    for column in range(1, width - 1):
        going = (inner[:, column] & ~close.all(1)).nonzero().squeeze(1)
        if len(going):
            visits.append(going * width + column)
            values.append(ask(walk.masks(visits[-1])))
            close[going] |= ((full - values[-1]).abs() < tolerance).cpu()
    return tuple(visits), values


def fill(
    round_: Round, values: Iterable[Tensor], empty: Tensor, full: Tensor, tolerance: float
) -> Tensor:
    """Returns v at all cuts, (R, c + 2, m) float64.

    From the first prefix on that is within the tolerance of v(D), a column has the value v(D), as where nothing was asked: its
    later marginal contributions are 0, and what it has still to gain, less than the tolerance, falls to the block that came
    there.

    Args:
        round_: the walk, and what was asked.
        values: (k, m) of each call.
        empty: (m,) v(empty).
        full: (m,) v(D).
        tolerance: as in `follow`.
    """
    table = full.double().expand(round_.walk.cuts.numel(), len(full)).clone()
    for places, part in zip(round_.visits, values, strict=True):
        table[places.to(table.device)] = part.double()
    table = table.view(*round_.walk.cuts.shape, len(full))
    table[:, 0] = empty.double()
    close = ((table[:, 1:] - full.double()).abs() < tolerance).cumsum(1) > 0
    table[:, 1:] = torch.where(close, full.double(), table[:, 1:])
    return table


def levels(walk: Walk, table: Tensor) -> Tensor:
    """Returns l at the cuts, (R, c + 2, m): the mean of v over the same cut of the other pairs, or a line if there are none."""
    pairs = table.unflatten(0, (-1, 2))
    if len(pairs) == 1:
        line = walk.cuts.to(table)[:, :, None] / walk.ranks.shape[1]
        return table[:, :1] + line * (table[:, -1:] - table[:, :1])
    others: Tensor = (pairs.sum((0, 1)) - pairs.sum(1)) / (2 * len(pairs) - 2)
    return others.repeat_interleave(2, 0)


def contributions(walk: Walk, table: Tensor) -> Tensor:
    """Returns what each member of a block gets, (R, c + 1, m), for v at the cuts, (R, c + 2, m); see the head of this file."""
    ones = walk.p.new_ones(1)
    extra = (1 / torch.cat([ones, walk.p, ones]) - 1)[walk.cuts].to(
        table
    )  # 1/p - 1; nothing at both ends, which are certain
    counted = table + extra[:, :, None] * (table - levels(walk, table))
    lengths = walk.cuts.diff(dim=1).clamp(min=1).to(table)
    shares: Tensor = counted.diff(dim=1) / lengths[:, :, None]
    return shares
