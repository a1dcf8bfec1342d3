"""Solving (H, damped) x = b for many b at once, where H is known by its products with vectors or as a whole.

Cost: one product with all vectors a step, and O(m^2 p) flops beside it; O(m p) memory.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from poisonbench.gradients.forms import amax

Product = Callable[[Tensor], Tensor]  # (m, p) -> (m, p)
HOPELESS = 1e6  # relative residual at which a recursion is given up
LARGEST = 16_384  # parameters up to which a matrix (p, p) is formed


def directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the unit vectors of rows (m, p), NaN for a row of zeros, and their norms (m, 1); tiny rows do not underflow."""
    size = amax(rows)[:, None]
    scaled = rows / size
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / norm, norm * size


def _scaled(x: Tensor, norm: Tensor) -> Tensor:
    return torch.where(norm == 0, torch.zeros_like(x), x * norm)  # no gradient, no influence


def conjugate_gradients(product: Product, b: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """Returns H^-1 b for m right-hand sides, (m, p), by block conjugate gradients (O'Leary, Linear Algebra Appl. 1980).

    All solutions are sought in the space that the products of all directions span, so that m points take fewer steps together
    than any of them alone. Where that space meets a direction d with d^T H d <= 0, every point is solved in a space of its own.

    Args:
        product: the rows of (k, p) times H, which must be positive definite.
        b: (m, p).
        tolerance: relative residual at which a row is done; the block is done with its last row.
        max_steps: steps after which a warning names the worst residual.

    Returns:
        (m, p); NaN, with a warning, in rows whose own space has a d with d^T H d <= 0: H is not positive definite.
    """
    unit, norm = directions(b)
    finite = ~unit.isnan().any(1)
    x, residual, indefinite = (
        unit.clone(),
        torch.full_like(unit[:, 0], torch.nan),
        torch.zeros_like(finite),
    )
    if bool(finite.any()):
        found = _in_one_space(product, unit[finite], tolerance, max_steps)
        if found is None:
            x[finite], residual[finite], indefinite[finite] = _one_each(
                product, unit[finite], tolerance, max_steps
            )
        else:
            x[finite], residual[finite] = found
    x[indefinite] = torch.nan
    if bool(indefinite.any()):
        where = f"{int(indefinite.sum())} of {len(b)} points, whose scores are NaN"
        _warn(
            f"cg met non-positive curvature at {where}: raise damping, or take curvature 'gauss-newton'"
        )
    _check("cg", residual[~indefinite], tolerance, max_steps)
    return _scaled(x, norm)


def _in_one_space(
    product: Product, b: Tensor, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor] | None:
    """Returns solutions (m, p) and residuals (m,) by block conjugate gradients; None: H is not positive definite.

    With orthonormal residuals (BCGrQ: Dubrulle, Electron. Trans. Numer. Anal. 2001), which dependent right-hand sides and rows
    that are done before the others do not disturb. The residual is C^T Q with rows Q.
    """
    q, c = _orthonormal(b)
    x, d = torch.zeros_like(b), q
    for _ in range(max_steps):
        if bool((torch.linalg.vector_norm(c, dim=0) <= tolerance).all()):
            break
        image = product(d)
        gram = (d @ image.T).double()
        factor, info = torch.linalg.cholesky_ex((gram + gram.T) / 2)
        if int(info):
            return None
        length = torch.cholesky_inverse(factor).to(b)
        x += (length @ c).T @ d
        q, z = _orthonormal(q - length @ image)
        c = z @ c
        d = q + z @ d
    return x, torch.linalg.vector_norm(c, dim=0)


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns q (k, p) with orthonormal rows and z (k, m), k = min(m, p), with rows = z^T q."""
    q, z = torch.linalg.qr(rows.T)
    return q.T.contiguous(), z


def _one_each(
    product: Product, b: Tensor, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns solutions (m, p), residuals (m,) and where H showed itself not positive definite, by a recursion a row.

    Rows that are done take no part in further products (Hestenes & Stiefel 1952).
    """
    r, x, d = b.clone(), torch.zeros_like(b), b.clone()
    rr = r.square().sum(1)
    indefinite = torch.zeros_like(rr, dtype=torch.bool)
    for _ in range(max_steps):
        live = ((rr > tolerance**2) & ~indefinite).nonzero().squeeze(1)
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
        d[live] = r[live] + (fresh / rr[live])[:, None] * step
        rr[live] = fresh
    return x, rr.sqrt(), indefinite


def richardson(
    product: Product,
    b: Tensor,
    scale: float,
    tolerance: float,
    max_steps: int,
    sampled: Product | None = None,
) -> Tensor:
    """Returns H^-1 b for m right-hand sides, (m, p), by x <- x + (b - H x) / scale: the recursion of LiSSA.

    With h = scale x it reads h <- b + (I - H / scale) h, as in section 3 of Koh & Liang 2017.

    Args:
        product: the rows of (k, p) times the whole H, damping included.
        b: (m, p).
        scale: above half the largest eigenvalue of H.
        tolerance: relative residual at which a row is done.
        max_steps: steps after which a warning names the worst residual.
        sampled: the same with H of a fresh draw of instances, for the steps; all `max_steps` are then taken.

    Returns:
        (m, p); NaN, with a warning, in rows whose residual ends above that of x = 0.
    """
    b, norm = directions(b)
    x, residual = b / scale, torch.where(b.isnan().any(1), torch.nan, torch.ones_like(b[:, 0]))
    for _ in range(max_steps):
        if sampled:
            x += (b - sampled(x)) / scale
            continue
        live = ((residual > tolerance) & (residual < HOPELESS)).nonzero().squeeze(1)
        if not len(live):
            break
        change = b[live] - product(x[live])
        residual[live] = torch.linalg.vector_norm(change, dim=1)
        x[live] += change / scale
    if sampled:
        residual = torch.linalg.vector_norm(b - product(x), dim=1)
    lost = (residual > 1) | (residual.isnan() & ~b.isnan().any(1))
    x[lost] = torch.nan
    if bool(lost.any()):
        where = f"{int(lost.sum())} of {len(b)} points, whose scores are NaN"
        _warn(
            f"lissa diverged at {where}: raise scale above {scale:.3g}, or damping if the curvature has negative eigenvalues"
        )
    _check("lissa", residual[~lost], tolerance, max_steps)
    return _scaled(x, norm)


def _check(name: str, residual: Tensor, tolerance: float, steps: int) -> None:
    late = residual[residual > tolerance]
    if len(late):
        many = f"{len(late)} of {len(residual)} points above relative residual {tolerance:.1e}"
        how_far = f"{many}, the worst at {float(late.max()):.1e}"
        _warn(f"after {steps} steps {name} left {how_far}: raise max_steps, damping or tolerance")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def largest_eigenvalue(product: Product, like: Tensor, steps: int = 30) -> float:
    """Returns the eigenvalue of largest magnitude, by power iteration from a fixed start, for vectors `like` (p,): from below."""
    g = torch.Generator().manual_seed(0)
    v, size = torch.randn(len(like), generator=g, dtype=torch.float64).to(like)[None], 1.0
    for _ in range(steps):
        v = product(v / torch.linalg.vector_norm(v))
        size = float(torch.linalg.vector_norm(v))
    return size


def cholesky(product: Product, like: Tensor, block: int) -> Tensor:
    """Returns the lower Cholesky factor of H, (p, p), formed from its products with the unit vectors, `block` at a time.

    Raises:
        ValueError: p is too large, or H is not positive definite.
    """
    p = len(like)
    if p > LARGEST:
        raise ValueError(
            f"solver 'explicit' needs at most {LARGEST} parameters, got {p}: use 'cg' or 'ekfac', or layers 'last'"
        )
    h = torch.empty((p, p), dtype=like.dtype, device=like.device)
    for rows in torch.arange(p, device=like.device).split(block):
        unit = like.new_zeros(len(rows), p).scatter_(1, rows[:, None], 1.0)
        h[rows] = product(unit)
    h = (h + h.T).div_(2)
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(h)
    if int(info):
        raise ValueError(
            "the curvature is not positive definite: raise damping, or take curvature 'gauss-newton'"
        )
    return factor
