"""A linear head refitted to a stationary point of its regularised loss, and the sum over the
training instances that it is there (Yeh et al., NeurIPS 2018, arXiv 1811.09720).

Cost: Newton's method, O(n C d) a product with the Hessian; O(n (d + C)) memory beyond a Hessian of
at most `EXPLICIT` squared.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.kit.conjugate_gradients import conjugate_gradients
from poisonbench.objectives import logit_gradient

# entries of the head up to which Newton's equations are solved by Cholesky
EXPLICIT = 1500
REACHED = 1e-10  # |grad J| / (2 l2) relative to 1 + |W| where Newton stops
RESIDUAL = 1e-3  # relative, of the conjugate gradients above `EXPLICIT`
HALVINGS = 30  # of a Newton step
ROWS = 1024  # instances of the Hessian taken together


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A linear head W (C, D) beside the sum over the training instances that it equals where J is
    stationary; all in float64.

    Attributes:
        weight: W, (C, D); where the head has a bias it is the last column.
        inputs: (n, D) penultimate features f_i, with a constant 1 appended where the head has a
            bias.
        alpha: (n, C), -(1 / (2 l2 n)) d loss_i / d (W f_i).
        directions: (n, C), alpha_i / |alpha_i|, right at any confidence.
        gradient: (C, D) of J = mean loss + l2 |W|^2 at W.
        l2: strength of the regulariser.
    """

    weight: Tensor
    inputs: Tensor
    alpha: Tensor
    directions: Tensor
    gradient: Tensor
    l2: float

    @property
    def error(self) -> float:
        """|W - sum_i alpha_i f_i^T| / (1 + |W|), which is |grad J| / (2 l2) on the same scale."""
        missed = self.weight - self.alpha.T @ self.inputs
        return float(missed.norm() / (1 + self.weight.norm()))


def decomposition(
    weight: Tensor, inputs: Tensor, y: Tensor, l2: float
) -> Decomposition:
    """Returns what any head W makes of the training instances.

    Args:
        weight: (C, D) float64.
        inputs: (n, D) float64.
        y: (n,) int64 labels.
        l2: strength of the regulariser.
    """
    logits = inputs @ weight.T
    alpha = logit_gradient(logits, y, "loss") / (-2 * l2 * len(y))
    # minus a positive multiple of the loss gradient: the direction of alpha
    ascent = logit_gradient(logits, y, "margin")
    norm = torch.linalg.vector_norm(ascent, dim=1, keepdim=True)
    return Decomposition(
        weight=weight,
        inputs=inputs,
        alpha=alpha,
        directions=ascent / norm,
        gradient=_gradient(weight, inputs, y, l2),
        l2=l2,
    )


def refit(
    weight: Tensor,
    inputs: Tensor,
    y: Tensor,
    l2: float,
    steps: int = 100,
) -> Tensor:
    """Returns the head that minimises J, by Newton's method on the norm of its gradient.

    J is strongly convex, so every Newton step, shortened enough, lowers |grad J|, until it is
    negligible or rounding stops it. Arguments as for `decomposition`.
    """
    gradient = _gradient(weight, inputs, y, l2)
    for _ in range(steps):
        norm = gradient.norm()
        if norm / (2 * l2) <= REACHED * (1 + weight.norm()):
            break
        step = newton_step(weight, inputs, gradient, l2)
        for halvings in range(HALVINGS):
            length = 0.5**halvings
            moved = weight - length * step
            there = _gradient(moved, inputs, y, l2)
            if there.norm() <= (1 - 0.25 * length) * norm:
                break
        else:
            break
        weight = moved
        gradient = there
    return weight


def _gradient(weight: Tensor, inputs: Tensor, y: Tensor, l2: float) -> Tensor:
    """Returns grad J, (C, D)."""
    by_logits = logit_gradient(inputs @ weight.T, y, "loss")
    return by_logits.T @ inputs / len(y) + 2 * l2 * weight


def newton_step(weight: Tensor, inputs: Tensor, gradient: Tensor, l2: float) -> Tensor:
    """Returns the Hessian's inverse times the gradient, (C, D), exact or to a residual of 1e-3."""
    p = (inputs @ weight.T).softmax(1)
    if weight.numel() > EXPLICIT:
        return _by_products(p, inputs, gradient, l2)
    hessian = _hessian(p, inputs)
    hessian.diagonal().add_(2 * l2)
    factor = torch.linalg.cholesky(hessian)
    solved = torch.cholesky_solve(gradient.reshape(-1, 1), factor)
    return solved.view_as(weight)


def _by_products(p: Tensor, inputs: Tensor, gradient: Tensor, l2: float) -> Tensor:
    def product(rows: Tensor) -> Tensor:
        v = rows.view_as(gradient)
        s = p * (inputs @ v.T)
        centred = s - p * s.sum(1, keepdim=True)
        image = centred.T @ inputs / len(inputs) + 2 * l2 * v
        return image.view_as(rows)

    rows = gradient.reshape(1, -1)
    steps = 10 * gradient.numel()
    return conjugate_gradients(product, rows, RESIDUAL, steps).view_as(gradient)


def _hessian(p: Tensor, inputs: Tensor) -> Tensor:
    """Returns that of the mean loss by W, (C D, C D), from the predicted probabilities (n, C).

    The block (c, c') is the mean of f f^T weighted by p_c (1[c = c'] - p_c').
    """
    classes = p.shape[1]
    width = inputs.shape[1]
    hessian = p.new_zeros(classes, width, classes, width)
    for q, f in zip(p.split(ROWS), inputs.split(ROWS), strict=True):
        for c in range(classes):
            mixed = -q * q[:, c : c + 1]
            mixed[:, c] += q[:, c]
            hessian[c] += torch.einsum("ni,nk,nj->ikj", f, mixed, f) / len(inputs)
    size = classes * width
    return hessian.view(size, size)
