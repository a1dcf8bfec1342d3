"""What is left of a prediction's lead as training rows leave: refits of a least-squares head on the victim's features.

The head's loss is quadratic, so the Newton step of a group is the refit without it: f(t) - q_S (I - Q_SS)^-1 r_S, with Q the hat
matrix, q_S the test point's row of it and r_S the residuals (Cook & Weisberg 1982). Sets that grow row by row share one Cholesky
factor of I - Q_SS, whose next column is made when its row has been chosen. The features stay as they are.

That a set is better grown row by row, what the next one is worth estimated anew each time, than taken from the top of a ranking:
Hu, Hu, Zhao & Ma 2024, arXiv 2409.18153, and Huang et al. 2024, arXiv 2408.09008, for linear regression.

Cost: O(n D^2 + D^3) once for D features, or n if these are more; of K rows out of q candidates, for m points, O(m q (q D + K^2)).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.features import Layer, centred, features_of
from poisonbench.data import Dataset
from poisonbench.training.trace import Trace

Estimate = Literal["first", "second", "newton"]


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


def fit_head(trace: Trace, test: Dataset, layer: Layer, l2: float) -> Head:
    """Returns the head that minimises the mean squared error + l2 |W|^2 over the training rows.

    Features are shifted to mean 0 and scaled to mean square norm 1; a constant 1 is the bias, regularised like the others.

    Args:
        trace: gives the model, whose features are used, and the training rows.
        test: m points.
        layer: see `defenses.features.encoder`.
        l2: strength of the regulariser.
    """
    rows, points = (part.double() for part in features_of(trace, layer, trace.train, test))
    n, apart = len(rows), centred(rows)
    both = torch.cat([apart, points - rows.mean(0)])
    size = apart.square().sum(1).mean().sqrt()
    inputs = torch.cat([both / torch.where(size > 0, size, 1.0), both.new_ones(len(both), 1)], 1)
    if inputs.shape[1] > n:  # the head lies in the span of the rows: n coordinates do
        inputs = inputs @ torch.linalg.qr(inputs[:n].T).Q
    gram = inputs[:n].T @ inputs[:n]
    gram.diagonal().add_(n * l2)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(gram), inputs.T, upper=False).T
    labels = F.one_hot(trace.train.y, trace.train.classes).to(white.dtype)
    votes = white @ (white[:n].T @ labels)
    return Head(white[:n], white[n:], labels - votes[:n], votes[n:])


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


def candidates(head: Head, point: Tensor, y: Tensor, rows: Tensor) -> Candidates:
    """Returns the candidates `rows` (b, q) of the test points `point` (b,), whose labels are y (b,)."""
    z = head.rows[rows]  # (b, q, D)
    return Candidates(
        head.votes[point],
        y,
        (z @ head.points[point][:, :, None]).squeeze(2),
        head.residual[rows],
        z @ z.mT,
    )


def lead(votes: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how far the vote for y is above the next one, (...,), and which label that is, for votes (..., C)."""
    rest, label = votes.scatter(-1, y[..., None], -torch.inf).max(-1)
    return votes.gather(-1, y[..., None]).squeeze(-1) - rest, label


def nested(case: Candidates, estimate: Estimate) -> Tensor:
    """Returns the lead without the first k candidates for k = 0..q, (b, q + 1).

    With u = along and r = residual the vote falls by u r ("first"), u (I + Q) r ("second"), the next term of the Neumann series
    of u (I - Q)^-1 r ("newton", exact), each over the first k.
    """
    u, r, hat = case.along[:, :, None], case.residual, case.hat
    if estimate == "newton":
        eye = torch.eye(hat.shape[1], dtype=hat.dtype, device=hat.device)
        factor = torch.linalg.cholesky(eye - hat)
        solved = torch.linalg.solve_triangular(factor, torch.cat([u, r], 2), upper=False)
        fall = solved[:, :, :1] * solved[:, :, 1:]
    else:
        fall = u * r
        if estimate == "second":
            fall = fall + u * (hat.tril() @ r) + r * (hat.tril(-1) @ u)
    votes = case.votes[:, None] - torch.cat([torch.zeros_like(fall[:, :1]), fall.cumsum(1)], 1)
    return lead(votes, case.y[:, None].expand(votes.shape[:2]))[0]


def adaptive(case: Candidates, weight: Tensor, most: int) -> Tensor:
    """Returns the lead without the first k of the rows chosen one after another, for k = 0..most, (b, most + 1).

    The next row is the one for which weight times the fall of the lead, refitted without it and all before, is largest; where
    no row lowers the lead none leaves.

    Args:
        case: the candidates.
        weight: (b, q), rows of weight <= 0 stay.
        most: rows that leave, at most q.
    """
    b, q = weight.shape
    point, votes = torch.arange(b, device=weight.device), case.votes
    u, r, hat = case.along, case.residual, case.hat
    spare = 1 - hat.diagonal(
        dim1=1, dim2=2
    )  # the diagonal of I - Q, each entry given the rows that have left
    columns, weight = hat.new_zeros(b, most, q), weight.clamp(min=0)
    leads = []
    for k in range(most):
        here, second = lead(votes, case.y)
        leads.append(here)
        gap = r.gather(2, case.y[:, None, None].expand(-1, q, 1)) - r.gather(
            2, second[:, None, None].expand(-1, q, 1)
        )
        gain = weight * u * gap.squeeze(2) / spare
        best, row = gain.max(1)
        goes = (best > 0) & (here > 0)
        if not bool(goes.any()):
            break
        # the row's column of I - Q, minus what the rows that have left account for: the next one of the Cholesky factor
        column = -hat[point, row] - (columns[point, :k, row][:, None] @ columns[:, :k]).squeeze(1)
        column = column.scatter(1, row[:, None], spare[point, row][:, None])
        column = column * (goes / spare[point, row].sqrt())[:, None]
        columns[:, k] = column
        pivot = torch.where(goes, spare[point, row].sqrt(), 1.0)
        of_point, of_row = u[point, row] / pivot, r[point, row] / pivot[:, None]
        votes = votes - goes[:, None] * of_point[:, None] * of_row
        u, r = u - column * of_point[:, None], r - column[:, :, None] * of_row[:, None]
        weight = weight.scatter(1, row[:, None], 0.0)
        spare = torch.where(weight > 0, spare - column.square(), 1.0)
    leads += [lead(votes, case.y)[0]] * (most + 1 - len(leads))
    return torch.stack(leads, 1)


def in_blocks(
    score: Callable[[Tensor], Tensor], points: Tensor, numbers: int, room: int = 1 << 22
) -> Tensor:
    """Returns `score` of all points, (m,), some at a time: as many as `room` numbers hold, at `numbers` each, one at least."""
    return torch.cat([score(part) for part in points.split(max(1, room // numbers))])
