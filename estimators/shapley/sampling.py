"""Permutation sampling until the standard errors are small: estimates with their spread, and the rule that stops.

Cost: O(m n) a permutation beyond its values of v, and O(m n) memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.shapley.permutations import (
    Ask,
    Round,
    Walk,
    contributions,
    draw,
    fill,
    follow,
    frequencies,
)
from poisonbench.seeding import generator

ROUND = 100  # permutations between two looks at the standard error, and the fewest that are judged


@dataclass
class Tally:
    """Mean and spread of the estimates of antithetic pairs, pair by pair (Welford).

    Attributes:
        mean: (m, n) float64.
        squares: (m, n), sum of squared deviations from the mean.
        pairs: how many were added.
    """

    mean: Tensor
    squares: Tensor
    pairs: int = 0

    @classmethod
    def of(cls, full: Tensor, players: int) -> "Tally":
        """Returns an empty tally for m games, v(D) of each in `full`, (m,)."""
        zeros = full.new_zeros((len(full), players), dtype=torch.float64)
        return cls(zeros, zeros)

    def add(self, walk: Walk, table: Tensor) -> None:
        """Adds the permutations of a walk, with v at their cuts, (R, c + 2, m); pairs with a NaN are left out."""
        sound = ~table.isnan().flatten(1).any(1).unflatten(0, (-1, 2)).any(1).repeat_interleave(2)
        walk, table = Walk(walk.ranks[sound.cpu()], walk.cuts[sound.cpu()], walk.p), table[sound]
        blocks = (
            torch.searchsorted(walk.cuts, walk.ranks, right=True).sub(1).to(table.device)
        )  # the block of each player
        shares = contributions(walk, table).mT  # (R, m, c + 1)
        for p in range(0, len(blocks), 2):
            estimate = (shares[p][:, blocks[p]] + shares[p + 1][:, blocks[p + 1]]) / 2  # (m, n)
            self.pairs += 1
            off = estimate - self.mean
            self.mean = self.mean + off / self.pairs
            self.squares = self.squares + off * (estimate - self.mean)

    @property
    def values(self) -> Tensor:
        """Returns the estimates (m, n), NaN where there is no pair."""
        return self.mean if self.pairs else torch.full_like(self.mean, torch.nan)

    @property
    def standard_error(self) -> Tensor:
        """Returns the standard errors (m, n), NaN below two pairs."""
        variance = self.squares.clamp(min=0) / max(1, self.pairs - 1)
        return (
            (variance / self.pairs).sqrt()
            if self.pairs > 1
            else torch.full_like(self.mean, torch.nan)
        )

    def largest_error(self, own: Tensor | None = None) -> float:
        """Returns the largest standard error; `own`, (m,), names an entry a row to leave out. NaN below two pairs."""
        errors = self.standard_error
        if own is not None:
            errors = errors.scatter(1, own.to(errors.device)[:, None], 0.0)
        return float(errors.max())


@dataclass(frozen=True)
class Rule:
    """When to stop.

    Attributes:
        permutations: at most so many.
        precision: from `ROUND` permutations on, stop where the largest standard error is at most this part of what is shared
            out, the largest |v(D) - v(empty)|. 0 goes on to the end.
        stride: players between two prefixes; None: about as many as the prefix has.
        tolerance: of the truncation, see `follow`.
    """

    permutations: int
    precision: float
    stride: int | None
    tolerance: float = 0.0


def sample(
    ask: Ask,
    players: int,
    empty: Tensor,
    full: Tensor,
    rule: Rule,
    seed: int,
    own: Tensor | None = None,
) -> "Sample":
    """Samples permutations until the rule says stop.

    Args:
        ask: the game.
        players: n.
        empty: (m,) v(empty).
        full: (m,) v(D).
        rule: when to stop.
        seed: of the permutations.
        own: (m,) int64 or None, in each column a player whose value is not judged.
    """
    rounds: list[Round] = []
    tally, goal = Tally.of(full, players), rule.precision * float((full - empty).abs().max())
    while (done := sum(len(r.walk.cuts) for r in rounds)) < rule.permutations:
        pairs = (min(ROUND, rule.permutations - done) + 1) // 2
        walk = draw(
            pairs, frequencies(players, rule.stride), generator(seed, "permutations", len(rounds))
        )
        visits, values = follow(walk, ask, full, rule.tolerance)
        rounds.append(Round(walk, visits))
        tally.add(walk, fill(rounds[-1], values, empty, full, rule.tolerance))
        if done + 2 * pairs >= ROUND and tally.largest_error(own) <= goal:
            return Sample(rounds, tally, "precision")
    return Sample(rounds, tally, "permutations")


@dataclass(frozen=True, eq=False)
class Sample:
    """What was sampled.

    Attributes:
        rounds: the walks and what they asked.
        tally: values and standard errors.
        stopped: what ended it: "precision" or "permutations".
    """

    rounds: list[Round]
    tally: Tally
    stopped: str

    @property
    def truncated(self) -> float:
        """The share of the prefixes that were not asked."""
        inner = sum(int(r.walk.inner().sum()) for r in self.rounds)
        return 1 - sum(len(v) for r in self.rounds for v in r.visits) / max(inner, 1)
