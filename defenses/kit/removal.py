"""What is left of a prediction's lead as training rows leave a least-squares head, one by one.

Sets that grow row by row share one Cholesky factor of I - Q_SS (see `refitted_head`), whose next
column is made when its row has been chosen.

That a set is better grown row by row, what the next one is worth estimated anew each time, than
taken from the top of a ranking: Hu, Hu, Zhao & Ma 2024, arXiv 2409.18153, and Huang et al. 2024,
arXiv 2408.09008, for linear regression.

Cost: of K rows out of q candidates, for m points, O(m q K^2) beyond the candidates.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from defenses.kit.refitted_head import Candidates, lead

Estimate = Literal["first", "second", "newton"]


def nested(case: Candidates, estimate: Estimate) -> Tensor:
    """Returns the lead without the first k candidates for k = 0..q, (b, q + 1).

    With u = along and r = residual the vote falls by u r ("first"), u (I + Q) r ("second"), the
    next term of the Neumann series of u (I - Q)^-1 r ("newton", exact), each over the first k.
    """
    if estimate == "newton":
        fall = _newton(case)
    elif estimate == "second":
        fall = _second(case)
    else:
        fall = case.along[:, :, None] * case.residual
    none = torch.zeros_like(case.votes)[:, None]
    fallen = torch.cat([none, fall.cumsum(1)], 1)
    votes = case.votes[:, None] - fallen
    labels = case.y[:, None].expand(votes.shape[:2])
    return lead(votes, labels)[0]


def _newton(case: Candidates) -> Tensor:
    """Returns the fall of the votes with each further candidate, (b, q, C), refitted without it."""
    hat = case.hat
    q = hat.shape[1]
    identity = torch.eye(q, dtype=hat.dtype, device=hat.device)
    factor = torch.linalg.cholesky(identity - hat)
    along = case.along[:, :, None]
    sides = torch.cat([along, case.residual], 2)
    solved: Tensor = torch.linalg.solve_triangular(factor, sides, upper=False)
    of_point = solved[:, :, :1]
    of_rows = solved[:, :, 1:]
    return of_point * of_rows


def _second(case: Candidates) -> Tensor:
    """Returns the fall of the votes with each further candidate to second order, (b, q, C)."""
    along = case.along[:, :, None]
    first = along * case.residual
    up_to = case.hat.tril()
    before = case.hat.tril(-1)
    of_row = along * (up_to @ case.residual)
    of_point = case.residual * (before @ along)
    return first + of_row + of_point


@dataclass(frozen=True, eq=False)
class _Refit:
    """The head without the rows that have left, as far as the candidates need it.

    Attributes:
        votes: (b, C).
        along: (b, q), u: the points' side of the triangular solve.
        residual: (b, q, C), r: the labels' side.
        spare: (b, q), the diagonal of I - Q, each entry given the rows that have left.
        weight: (b, q), 0 for rows that have left or may not leave.
    """

    votes: Tensor
    along: Tensor
    residual: Tensor
    spare: Tensor
    weight: Tensor


def adaptive(case: Candidates, weight: Tensor, most: int) -> Tensor:
    """Returns the lead without the first k of the rows chosen one after another, (b, most + 1).

    The next row is the one for which weight times the fall of the lead, refitted without it and all
    before, is largest; where no row lowers the lead none leaves. k = 0..most.

    Args:
        case: the candidates.
        weight: (b, q), rows of weight <= 0 stay.
        most: rows that leave, at most q.
    """
    refit = _Refit(
        votes=case.votes,
        along=case.along,
        residual=case.residual,
        spare=1 - case.hat.diagonal(dim1=1, dim2=2),
        weight=weight.clamp(min=0),
    )
    b, q = weight.shape
    factor = case.hat.new_zeros(
        b, most, q
    )  # a Cholesky column for each row that leaves
    leads = []
    for k in range(most):
        ahead, rival = lead(refit.votes, case.y)
        leads.append(ahead)
        gains = _gains(refit, case.y, rival)
        best, row = gains.max(1)
        goes = (best > 0) & (ahead > 0)
        if not bool(goes.any()):
            break
        column = _column(
            hat=case.hat,
            spare=refit.spare,
            factor=factor[:, :k],
            row=row,
            goes=goes,
        )
        factor[:, k] = column
        refit = _without(
            refit=refit,
            row=row,
            goes=goes,
            column=column,
        )
    last, _ = lead(refit.votes, case.y)
    missing = most + 1 - len(leads)
    leads += [last] * missing
    return torch.stack(leads, 1)


def _gains(refit: _Refit, y: Tensor, rival: Tensor) -> Tensor:
    """Returns weight times what the lead loses without each candidate, (b, q)."""
    own = _of_label(refit.residual, y)
    other = _of_label(refit.residual, rival)
    gain = refit.weight * refit.along * (own - other)
    return gain / refit.spare


def _of_label(residual: Tensor, label: Tensor) -> Tensor:
    """Returns the residuals (b, q, C) of one label a point, (b,), as (b, q)."""
    q = residual.shape[1]
    place = label[:, None, None].expand(-1, q, 1)
    return residual.gather(2, place).squeeze(2)


def _column(
    hat: Tensor,
    spare: Tensor,
    factor: Tensor,
    row: Tensor,
    goes: Tensor,
) -> Tensor:
    """Returns the next column of the Cholesky factor of I - Q, (b, q); 0 where no row leaves.

    It is the row's column of I - Q, minus what the rows that have left account for.

    Args:
        hat: (b, q, q).
        spare: (b, q).
        factor: (b, k, q), the columns before.
        row: (b,) int64, the row that leaves.
        goes: (b,) bool, whether it does.
    """
    points = torch.arange(len(row), device=row.device)
    own = spare[points, row]
    of_row = factor[points, :, row]  # (b, k)
    explained = of_row[:, None] @ factor
    towards = hat[points, row]  # (b, q)
    column = -towards - explained.squeeze(1)
    place = row[:, None]
    column = column.scatter(1, place, own[:, None])
    scale = goes / own.sqrt()
    return column * scale[:, None]


def _without(
    refit: _Refit,
    row: Tensor,
    goes: Tensor,
    column: Tensor,
) -> _Refit:
    """Returns the refit without one more row a point, where it goes; arguments as in `_column`."""
    points = torch.arange(len(row), device=row.device)
    place = row[:, None]
    own = refit.spare[points, row]
    pivot = torch.where(goes, own.sqrt(), 1.0)
    pivot = pivot[:, None]
    along = refit.along[points, row]
    of_point = along[:, None] / pivot
    residual = refit.residual[points, row]
    of_row = residual / pivot
    fall = goes[:, None] * of_point * of_row
    explained = column[:, :, None] * of_row[:, None]
    weight = refit.weight.scatter(1, place, 0.0)
    spare = refit.spare - column.square()
    return _Refit(
        votes=refit.votes - fall,
        along=refit.along - column * of_point,
        residual=refit.residual - explained,
        spare=torch.where(weight > 0, spare, 1.0),
        weight=weight,
    )
