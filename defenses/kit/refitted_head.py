"""A least-squares head on the victim's features, and what it needs to be refitted without rows.

The head's loss is quadratic, so the Newton step of a group is the refit without it:
f(t) - q_S (I - Q_SS)^-1 r_S, with Q the hat matrix, q_S the test point's row of it and r_S the
residuals (Cook & Weisberg 1982). The features stay as they are. `removal` lets rows leave.

Cost: O(n D^2 + D^3) once for D features, or n if these are more; of q candidates for m points
O(m q^2 D).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.features import centred
from poisonbench.data import Dataset


@dataclass(frozen=True, eq=False)
class Head:
    """A least-squares head fitted to the one-hot labels, in float64.

    Attributes:
        rows: (n, D), of the training rows; rows @ rows.T is the hat matrix Q.
        points: (m, D), the same of the test points.
        residual: (n, C), label minus fit.
        votes: (m, C), what it says of the test points.
    """

    rows: Tensor
    points: Tensor
    residual: Tensor
    votes: Tensor


def fit_head(
    rows: Tensor,
    points: Tensor,
    train: Dataset,
    l2: float,
) -> Head:
    """Returns the head that minimises the mean squared error + l2 |W|^2 over the training rows.

    Args:
        rows: (n, d) features of the training rows.
        points: (m, d), of the test points.
        train: the n training rows, whose labels are fitted.
        l2: strength of the regulariser.
    """
    n = len(train)
    inputs = _inputs(rows.double(), points.double())
    if inputs.shape[1] > n:  # the head lies in the span of the rows: n coordinates do
        basis = torch.linalg.qr(inputs[:n].T).Q
        inputs = inputs @ basis
    of_rows = inputs[:n]
    gram = of_rows.T @ of_rows
    gram.diagonal().add_(n * l2)
    factor = torch.linalg.cholesky(gram)
    solved = torch.linalg.solve_triangular(factor, inputs.T, upper=False)
    white = solved.T
    labels = F.one_hot(train.y, train.classes)
    labels = labels.to(white.dtype)
    weights = white[:n].T @ labels
    votes = white @ weights
    return Head(
        rows=white[:n],
        points=white[n:],
        residual=labels - votes[:n],
        votes=votes[n:],
    )


def _inputs(rows: Tensor, points: Tensor) -> Tensor:
    """Returns what the head sees of the rows (n, d) and then the points (m, d), (n + m, d + 1).

    Features are shifted to mean 0 and scaled to mean square norm 1, both by the rows; a constant 1
    is the bias, regularised like the others.
    """
    apart = centred(rows)
    shifted = points - rows.mean(0)
    both = torch.cat([apart, shifted])
    size = apart.square().sum(1).mean().sqrt()
    size = torch.where(size > 0, size, 1.0)
    scaled = both / size
    bias = both.new_ones(len(both), 1)
    return torch.cat([scaled, bias], 1)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Some test points of a head, each with q rows that may leave.

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
) -> Candidates:
    """Returns the candidates of some test points.

    Args:
        head: of m points and n rows.
        points: (b,) int64, indices of test points.
        y: (b,) int64, their labels.
        rows: (b, q) int64, the rows that may leave for each.
    """
    chosen = head.rows[rows]  # (b, q, D)
    towards = head.points[points][:, :, None]  # (b, D, 1)
    return Candidates(
        votes=head.votes[points],
        y=y,
        along=(chosen @ towards).squeeze(2),
        residual=head.residual[rows],
        hat=chosen @ chosen.mT,
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
