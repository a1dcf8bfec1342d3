"""Right-hand sides of linear systems as unit vectors, and what is told of rows left unsolved."""

import warnings

import torch
from torch import Tensor

from poisonbench.gradients.forms import magnitude


def directions(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the unit vectors of rows (m, p), NaN for a row of zeros, and their norms, (m, 1).

    Tiny rows do not underflow.
    """
    size = magnitude(rows)[:, None]
    scaled = rows / size
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / norm, norm * size


def rescaled(x: Tensor, norm: Tensor) -> Tensor:
    """Returns the solutions for right-hand sides of these norms, (m, p): 0 for a norm of 0."""
    nothing = torch.zeros_like(x)
    return torch.where(norm == 0, nothing, x * norm)


def tell_unsolved(
    solver: str,
    residual: Tensor,
    tolerance: float,
    steps: int,
) -> None:
    """Warns of rows whose relative residual is above the tolerance, with the worst.

    Args:
        solver: name for the message.
        residual: (m,), NaN for a row of zeros.
        tolerance: relative residual.
        steps: that were taken.
    """
    late = residual[residual > tolerance]
    if not len(late):
        return
    many = (
        f"{len(late)} of {len(residual)} points above relative residual {tolerance:.1e}"
    )
    worst = f"the worst at {float(late.max()):.1e}"
    tell(
        f"after {steps} steps {solver} left {many}, {worst}: raise max_steps, damping or tolerance"
    )


def tell_lost(lost: Tensor, what: str, way_out: str) -> None:
    """Warns of rows whose scores are NaN.

    Args:
        lost: (m,) bool.
        what: happened to them.
        way_out: what the user may change.
    """
    if bool(lost.any()):
        where = f"{int(lost.sum())} of {len(lost)} points, whose scores are NaN"
        tell(f"{what} at {where}: {way_out}")


def tell(text: str) -> None:
    """Warns where a solver was called."""
    warnings.warn(text, RuntimeWarning, stacklevel=4)
