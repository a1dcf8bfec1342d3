"""Solving (H, damped) x = b for many b at once by LiSSA's recursion or by Cholesky factors.

Cost of the recursion: one product with all vectors per step; O(m p) memory.
"""

import torch
from torch import Tensor

from estimators.kit.conjugate_gradients import Product
from estimators.kit.right_hand_sides import (
    directions,
    rescaled,
    tell_lost,
    tell_unsolved,
)

HOPELESS = 1e6  # relative residual at which a recursion is given up
LARGEST = 16_384  # parameters up to which a matrix (p, p) is formed


def richardson(
    product: Product,
    b: Tensor,
    scale: float,
    tolerance: float,
    max_steps: int,
    sampled: Product | None = None,
) -> Tensor:
    """Returns H^-1 b for m right-hand sides, (m, p), by x <- x + (b - H x) / scale: the recursion
    of LiSSA.

    With h = scale x it reads h <- b + (I - H / scale) h, as in section 3 of Koh & Liang 2017.

    Args:
        product: the rows of (k, p) times the whole H, damping included.
        b: (m, p).
        scale: above half the largest eigenvalue of H.
        tolerance: relative residual at which a row is done.
        max_steps: steps after which a warning names the worst residual.
        sampled: the same with H of a fresh draw of instances, for the steps; all `max_steps` are
            then taken.

    Returns:
        (m, p); NaN, with a warning, in rows whose residual ends above that of x = 0.
    """
    unit, norm = directions(b)
    empty = unit.isnan().any(1)
    if sampled is None:
        x, residual = _whole_steps(product, unit, scale, tolerance, max_steps)
    else:
        x = _sampled_steps(sampled, unit, scale, max_steps)
        residual = torch.linalg.vector_norm(unit - product(x), dim=1)
    lost = (residual > 1) | (residual.isnan() & ~empty)
    x[lost] = torch.nan
    tell_lost(
        lost,
        "lissa diverged",
        f"raise scale above {scale:.3g}, or damping if the curvature has negative eigenvalues",
    )
    tell_unsolved("lissa", residual[~lost], tolerance, max_steps)
    return rescaled(x, norm)


def _whole_steps(
    product: Product,
    b: Tensor,
    scale: float,
    tolerance: float,
    max_steps: int,
) -> tuple[Tensor, Tensor]:
    """Returns solutions (m, p) and relative residuals (m,), NaN for a row of NaN."""
    x = b / scale
    residual = torch.ones_like(b[:, 0])
    residual[b.isnan().any(1)] = torch.nan
    for _ in range(max_steps):
        open_rows = (residual > tolerance) & (residual < HOPELESS)
        live = open_rows.nonzero().squeeze(1)
        if not len(live):
            break
        change = b[live] - product(x[live])
        residual[live] = torch.linalg.vector_norm(change, dim=1)
        x[live] += change / scale
    return x, residual


def _sampled_steps(
    sampled: Product,
    b: Tensor,
    scale: float,
    max_steps: int,
) -> Tensor:
    x = b / scale
    for _ in range(max_steps):
        x += (b - sampled(x)) / scale
    return x


def largest_eigenvalue(product: Product, like: Tensor, steps: int = 30) -> float:
    """Returns the eigenvalue of largest magnitude, from below, by power iteration.

    Args:
        product: the rows of (k, p) times a symmetric matrix.
        like: (p,), what vectors are like.
        steps: of the iteration, from a fixed start.
    """
    draws = torch.Generator().manual_seed(0)
    start = torch.randn(len(like), generator=draws, dtype=torch.float64)
    v = start.to(like)[None]
    size = 1.0
    for _ in range(steps):
        unit = v / torch.linalg.vector_norm(v)
        v = product(unit)
        size = float(torch.linalg.vector_norm(v))
    return size


def cholesky(product: Product, like: Tensor, block: int) -> Tensor:
    """Returns the lower Cholesky factor of H, (p, p), from its products with the unit vectors.

    Args:
        product: the rows of (k, p) times H.
        like: (p,), what vectors are like.
        block: unit vectors taken together.

    Raises:
        ValueError: p is too large, or H is not positive definite.
    """
    p = len(like)
    if p > LARGEST:
        raise ValueError(
            f"solver 'explicit' needs at most {LARGEST} parameters, got {p}: "
            "use 'cg' or 'ekfac', or layers 'last'"
        )
    h = like.new_empty(p, p)
    numbers = torch.arange(p, device=like.device)
    for rows in numbers.split(block):
        unit = like.new_zeros(len(rows), p)
        unit.scatter_(1, rows[:, None], 1.0)
        h[rows] = product(unit)
    h = (h + h.T).div_(2)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(h)
    if int(info):
        raise ValueError(
            "the curvature is not positive definite: "
            "raise damping, or take curvature 'gauss-newton'"
        )
    return factor
