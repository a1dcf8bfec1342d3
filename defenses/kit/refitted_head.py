"""A least-squares head on the victim's features, and what it needs to be refitted without rows.

The head's loss is quadratic, so the Newton step of a group is the refit without it:
f(t) - q_S (I - Q_SS)^-1 r_S, with Q the hat matrix, q_S the test point's row of it and r_S the
residuals (Cook & Weisberg 1982). The features stay as they are. `removal` lets rows leave.

Cost: O(u D^2) for u rows that are candidates, in D features, and O(m q^2 D) for q of them at each
of m points. Memory: these u rows, and O(b q^2) for b points together.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.kit.head.fit import Head


@dataclass(frozen=True, eq=False)
class Pool:
    """Training rows that may leave, of which many points have some in common.

    Attributes:
        rows: (u,) int64, ascending.
        white: (u, D), see `Head.white`.
    """

    rows: Tensor
    white: Tensor

    @classmethod
    def of(cls, head: Head, rows: Tensor) -> "Pool":
        """Returns the pool of all rows that occur in `rows` (b, q) int64."""
        every = rows.unique()
        return cls(every, head.white(every))

    def hat(self, rows: Tensor) -> Tensor:
        """Returns the hat matrix among rows (b, q) of the pool, (b, q, q) float64."""
        place = torch.searchsorted(self.rows, rows.contiguous())
        b, q = rows.shape
        found = self.white.new_empty((b, q, q), dtype=torch.float64)
        for own, at in zip(found, place, strict=True):
            chosen = self.white[at]
            own.copy_(chosen @ chosen.T)
        return found

    def along(self, points: Tensor, rows: Tensor) -> Tensor:
        """Returns the entries of the hat matrix of points (b, D) at rows (b, q), (b, q) float64."""
        every = points.to(self.white.dtype) @ self.white.T
        place = torch.searchsorted(self.rows, rows.contiguous())
        return every.gather(1, place).double()


@dataclass(frozen=True, eq=False)
class Candidates:
    """Some test points of a head, each with q rows that may leave, in float64.

    Attributes:
        votes: (b, C).
        y: (b,) int64, the labels whose lead counts.
        along: (b, q), the points' entries of the hat matrix.
        residual: (b, q, C).
        hat: (b, q, q).
    """

    votes: Tensor
    y: Tensor
    along: Tensor
    residual: Tensor
    hat: Tensor


def candidates(
    head: Head,
    points: Tensor,
    y: Tensor,
    rows: Tensor,
    pool: Pool,
) -> Candidates:
    """Returns the candidates of some test points.

    Args:
        head: of m points and n rows.
        points: (b,) int64, indices of test points.
        y: (b,) int64, their labels.
        rows: (b, q) int64, the rows that may leave for each.
        pool: which has all of these rows.
    """
    return Candidates(
        votes=head.votes[points],
        y=y,
        along=pool.along(head.points[points], rows),
        residual=head.residual[rows],
        hat=pool.hat(rows),
    )


def lead(votes: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how far the vote for y is above the next one, (...,), and which label that is.

    Args:
        votes: (..., C).
        y: (...,) int64.
    """
    own = y[..., None]
    others = votes.scatter(-1, own, -torch.inf)
    next_vote, next_label = others.max(-1)
    vote = votes.gather(-1, own).squeeze(-1)
    return vote - next_vote, next_label
