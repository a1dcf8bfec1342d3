"""Permutations of the players, the prefixes at which they are asked, and the asking (truncated)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.shapley.strides import cuts_at

Ask = Callable[[Tensor], Tensor]  # masks (K, players) bool -> values (K, m)


@dataclass(frozen=True, eq=False)
class Walk:
    """R permutations and the prefixes at which they are asked.

    Permutation 2p + 1 is 2p in reverse, cut at the same places.

    Attributes:
        ranks: (R, n) int64, the place of each player.
        cuts: (R, c + 2) int64, ascending prefix lengths from 0 to n, padded with n.
        p: (n-1,), the probability of a cut at 1..n-1.
    """

    ranks: Tensor
    cuts: Tensor
    p: Tensor

    def masks(self, places: Tensor) -> Tensor:
        """Returns the prefixes, (k, n) bool, of flat `places` (k,) in `cuts`."""
        row = places // self.cuts.shape[1]
        length = self.cuts.flatten()[places]
        return self.ranks[row] < length[:, None]

    def inner(self) -> Tensor:
        """Returns the cuts that are neither the empty prefix nor the whole, (R, c + 2) bool."""
        players = self.ranks.shape[1]
        return (self.cuts > 0) & (self.cuts < players)

    def blocks(self) -> Tensor:
        """Returns the block between two cuts in which each player is, (R, n) int64."""
        after = torch.searchsorted(self.cuts, self.ranks, right=True)
        return after - 1

    def part(self, rows: Tensor) -> "Walk":
        """Returns some of the permutations, those where `rows` (R,) bool says so."""
        return Walk(self.ranks[rows], self.cuts[rows], self.p)


@dataclass(frozen=True, eq=False)
class Round:
    """A walk and the places that were asked, call by call; those that were not are truncated."""

    walk: Walk
    visits: tuple[Tensor, ...]


def draw(pairs: int, p: Tensor, g: torch.Generator) -> Walk:
    """Draws permutations, each followed by its reverse, and their cuts.

    Args:
        pairs: of permutations.
        p: (n-1,), as for a `Walk` of n players.
        g: of the draws.
    """
    last = len(p)
    order = torch.rand((pairs, last + 1), generator=g, dtype=torch.float64)
    ranks = order.argsort(1)
    reverse = last - ranks
    both = torch.stack([ranks, reverse], 1)
    u = 1 - torch.rand(pairs, generator=g, dtype=torch.float64)
    cuts = cuts_at(u, p)
    return Walk(
        ranks=both.flatten(0, 1),
        cuts=cuts.repeat_interleave(2, 0),
        p=p,
    )


def follow(
    walk: Walk,
    ask: Ask,
    full: Tensor,
    tolerance: float,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Asks for the prefixes of a walk, in step, until they are within the tolerance of v(D).

    Args:
        walk: R permutations.
        ask: the game.
        full: (m,) v(D).
        tolerance: a permutation stops where |v(D) - v(prefix)| has been below it, at this or a
            shorter prefix, in all m columns. With 0 none does, and all prefixes are asked in one
            call.

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
    visits = []
    values = []
    for column in range(1, width - 1):
        done = close.all(1)
        goes_on = inner[:, column] & ~done
        going = goes_on.nonzero().squeeze(1)
        if not len(going):
            continue
        places = going * width + column
        found = ask(walk.masks(places))
        off = (full - found).abs()
        close[going] |= (off < tolerance).cpu()
        visits.append(places)
        values.append(found)
    return tuple(visits), values
