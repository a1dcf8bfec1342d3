"""Permutation sampling until the standard errors are small: estimates with their spread.

Cost: O(m n) a permutation beyond its values of v, and O(m n) memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.shapley.permutations import contributions, fill
from estimators.shapley.strides import frequencies
from estimators.shapley.walks import Ask, Round, Walk, draw, follow
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
        shape = (len(full), players)
        zeros = full.new_zeros(shape, dtype=torch.float64)
        return cls(zeros, zeros)

    def add(self, walk: Walk, table: Tensor) -> None:
        """Adds the permutations of a walk; pairs with a NaN are left out.

        Args:
            walk: R permutations, pair by pair.
            table: (R, c + 2, m), v at their cuts.
        """
        sound = _sound_pairs(table)
        kept = walk.part(sound.cpu())
        blocks = kept.blocks().to(table.device)
        shares = contributions(kept, table[sound]).mT  # (R, m, c + 1)
        for first in range(0, len(blocks), 2):
            reverse = first + 1
            forwards = shares[first][:, blocks[first]]
            backwards = shares[reverse][:, blocks[reverse]]
            self._add((forwards + backwards) / 2)

    def _add(self, estimate: Tensor) -> None:
        """Adds the estimate of a pair, (m, n)."""
        self.pairs += 1
        off = estimate - self.mean
        self.mean = self.mean + off / self.pairs
        self.squares = self.squares + off * (estimate - self.mean)

    @property
    def values(self) -> Tensor:
        """The estimates (m, n), NaN where there is no pair."""
        if not self.pairs:
            return torch.full_like(self.mean, torch.nan)
        return self.mean

    @property
    def standard_error(self) -> Tensor:
        """The standard errors (m, n), NaN below two pairs."""
        if self.pairs < 2:
            return torch.full_like(self.mean, torch.nan)
        variance = self.squares.clamp(min=0) / (self.pairs - 1)
        return (variance / self.pairs).sqrt()

    def largest_error(self, own: Tensor | None = None) -> float:
        """Returns the largest standard error; NaN below two pairs.

        Args:
            own: (m,) int64 or None, an entry of each row to leave out.
        """
        errors = self.standard_error
        if own is not None:
            place = own.to(errors.device)
            errors = errors.scatter(1, place[:, None], 0.0)
        return float(errors.max())


def _sound_pairs(table: Tensor) -> Tensor:
    """Returns the permutations whose pair has no NaN at any cut, (R,) bool, for (R, c + 2, m)."""
    struck = table.isnan().flatten(1).any(1)
    pairs: Tensor = struck.unflatten(0, (-1, 2)).any(1)
    return ~pairs.repeat_interleave(2)


@dataclass(frozen=True)
class Rule:
    """When to stop.

    Attributes:
        permutations: at most so many.
        precision: from `ROUND` permutations on, stop where the largest standard error is at most
            this part of what is shared out, the largest |v(D) - v(empty)|. 0 goes on to the end.
        stride: players between two prefixes; None: about as many as the prefix has.
        tolerance: of the truncation, see `follow`.
    """

    permutations: int
    precision: float
    stride: int | None
    tolerance: float = 0.0


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
        inner = 0
        asked = 0
        for done in self.rounds:
            inner += int(done.walk.inner().sum())
            asked += sum(len(places) for places in done.visits)
        return 1 - asked / max(inner, 1)


def sample(
    ask: Ask,
    players: int,
    empty: Tensor,
    full: Tensor,
    rule: Rule,
    seed: int,
    own: Tensor | None = None,
) -> Sample:
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
    gain = (full - empty).abs().max()
    goal = rule.precision * float(gain)
    p = frequencies(players, rule.stride)
    rounds: list[Round] = []
    tally = Tally.of(full, players)
    done = 0
    while done < rule.permutations:
        left = min(ROUND, rule.permutations - done)
        pairs = (left + 1) // 2
        g = generator(seed, "permutations", len(rounds))
        walk = draw(pairs, p, g)
        visits, values = follow(
            walk=walk,
            ask=ask,
            full=full,
            tolerance=rule.tolerance,
        )
        rounds.append(Round(walk, visits))
        tally.add(
            walk,
            fill(
                round_=rounds[-1],
                values=values,
                empty=empty,
                full=full,
                tolerance=rule.tolerance,
            ),
        )
        done += 2 * pairs
        if done >= ROUND and tally.largest_error(own) <= goal:
            return Sample(rounds, tally, "precision")
    return Sample(rounds, tally, "permutations")
