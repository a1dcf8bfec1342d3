"""Conjugate gradients for many right-hand sides at once.

Cost: one product with all vectors per step, and O(m^2 p) flops beside it; O(m p) memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.kit.right_hand_sides import (
    directions,
    rescaled,
    tell_lost,
    tell_unsolved,
)

Product = Callable[[Tensor], Tensor]  # (m, p) -> (m, p)


@dataclass(frozen=True, eq=False)
class Solved:
    """What a recursion found.

    Attributes:
        x: (m, p) solutions.
        residual: (m,), relative.
        indefinite: (m,) bool, rows that met a direction d with d^T H d <= 0.
    """

    x: Tensor
    residual: Tensor
    indefinite: Tensor


def conjugate_gradients(
    product: Product,
    b: Tensor,
    tolerance: float,
    max_steps: int,
) -> Tensor:
    """Returns H^-1 b for m right-hand sides, (m, p), by block conjugate gradients (O'Leary, Linear
    Algebra Appl. 1980).

    All solutions are sought in the space that the products of all directions span, so that m points
    take fewer steps together than any of them alone. Where that space meets a direction d with
    d^T H d <= 0, every point is solved in a space of its own.

    Args:
        product: the rows of (k, p) times H, which must be positive definite.
        b: (m, p).
        tolerance: relative residual at which a row is done; the block is done with its last row.
        max_steps: steps after which a warning names the worst residual.

    Returns:
        (m, p); NaN, with a warning, in rows whose own space has a d with d^T H d <= 0: H is not
        positive definite.
    """
    unit, norm = directions(b)
    finite = ~unit.isnan().any(1)
    x = unit.clone()
    residual = torch.full_like(unit[:, 0], torch.nan)
    indefinite = torch.zeros_like(finite)
    if bool(finite.any()):
        found = _solved(product, unit[finite], tolerance, max_steps)
        x[finite] = found.x
        residual[finite] = found.residual
        indefinite[finite] = found.indefinite
    x[indefinite] = torch.nan
    tell_lost(
        indefinite,
        "cg met non-positive curvature",
        "raise damping, or take curvature 'gauss-newton'",
    )
    tell_unsolved("cg", residual[~indefinite], tolerance, max_steps)
    return rescaled(x, norm)


def _solved(
    product: Product,
    b: Tensor,
    tolerance: float,
    max_steps: int,
) -> Solved:
    together = _in_one_space(product, b, tolerance, max_steps)
    if together is not None:
        return together
    return _one_each(product, b, tolerance, max_steps)


def _in_one_space(
    product: Product,
    b: Tensor,
    tolerance: float,
    max_steps: int,
) -> Solved | None:
    """Returns what block conjugate gradients find; None: H is not positive definite.

    With orthonormal residuals (BCGrQ: Dubrulle, Electron. Trans. Numer. Anal. 2001), which
    dependent right-hand sides and rows that are done before the others do not disturb. The residual
    is C^T Q with rows Q.
    """
    q, c = _orthonormal(b)
    x = torch.zeros_like(b)
    d = q
    failed = torch.zeros((), dtype=torch.bool, device=b.device)
    for _ in range(max_steps):
        residual = torch.linalg.vector_norm(c, dim=0)
        done = (residual <= tolerance).all()
        # read together: each reading waits for the device
        is_done, has_failed = torch.stack([done, failed]).tolist()
        if has_failed:
            return None
        if is_done:
            break
        image = product(d)
        gram = (d @ image.T).double()
        factor, info = torch.linalg.cholesky_ex((gram + gram.T) / 2)
        failed = info != 0
        length = torch.cholesky_inverse(factor).to(b)
        x += (length @ c).T @ d
        q, z = _orthonormal(q - length @ image)
        c = z @ c
        d = q + z @ d
    if bool(failed):
        return None
    residual = torch.linalg.vector_norm(c, dim=0)
    definite = torch.zeros_like(residual, dtype=torch.bool)
    return Solved(x, residual, definite)


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns q (k, p) with orthonormal rows and z (k, m), k = min(m, p), with rows = z^T q."""
    q, z = torch.linalg.qr(rows.T)
    return q.T.contiguous(), z


def _one_each(
    product: Product,
    b: Tensor,
    tolerance: float,
    max_steps: int,
) -> Solved:
    """Returns what a recursion per row finds (Hestenes & Stiefel 1952).

    Rows that are done take no part in further products.
    """
    r = b.clone()
    x = torch.zeros_like(b)
    d = b.clone()
    rr = r.square().sum(1)
    indefinite = torch.zeros_like(rr, dtype=torch.bool)
    for _ in range(max_steps):
        open_rows = (rr > tolerance**2) & ~indefinite
        live = open_rows.nonzero().squeeze(1)
        if not len(live):
            break
        step = d[live]
        image = product(step)
        curvature = (step * image).sum(1)
        indefinite[live[curvature <= 0]] = True
        length = (rr[live] / curvature)[:, None]
        x[live] += length * step
        r[live] -= length * image
        fresh = r[live].square().sum(1)
        again = (fresh / rr[live])[:, None]
        d[live] = r[live] + again * step
        rr[live] = fresh
    return Solved(x, rr.sqrt(), indefinite)
