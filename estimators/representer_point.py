"""Representer point selection (Yeh et al., NeurIPS 2018, arXiv 1811.09720): a logit as a sum over the training instances.

Needs: the final model, with a linear head.

Cost: one pass over the data, then Newton's method on the head alone, O(n C d) a product with its Hessian; O(n (d + C)) memory
beyond a Hessian of at most `EXPLICIT` squared. Scores of m test points: O(m n d).
"""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estimators.kit.solvers import conjugate_gradients
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.objectives import logit_gradient
from poisonbench.training.trace import Trace, check_points, check_trace

EXPLICIT = 1500  # entries of the head up to which Newton's equations are solved by Cholesky; by conjugate gradients above
REACHED, TOLERATED = (
    1e-10,
    1e-6,
)  # |grad J| / (2 l2) relative to 1 + |W|: where Newton stops, and where it warns


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A linear head W (C, D) beside the sum over the training instances that it equals where J is stationary; all in float64.

    Attributes:
        weight: W, (C, D); where the head has a bias it is the last column.
        inputs: (n, D) penultimate features f_i, with a constant 1 appended where the head has a bias.
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
        """|W - sum_i alpha_i f_i^T| / (1 + |W|), which is |grad J| / (2 l2) on the same scale at any W."""
        return float((self.weight - self.alpha.T @ self.inputs).norm() / (1 + self.weight.norm()))


@dataclass(frozen=True)
class RepresenterPoint:
    """Scores alpha_{i,c} <f_i, f_test>, c = test.y, with f the penultimate features and alpha from the refitted head.

    The head is refitted, from the trained one, until J(W) = mean cross entropy + l2 |W|^2 is stationary. There W is the sum of
    alpha_i f_i^T, so that a test point's scores sum to its logit of test.y. A bias counts as the weight of a
    constant feature 1, regularised like the others.

    Attributes:
        l2: regulariser; half of a recipe's weight decay is the same penalty. Small values leave the head as trained but rest
            the scores on the few instances with a large loss; large ones spread them.
        renormalize: alpha_i divided by its norm, so that the scale of an instance's loss does not count. Taken from margin
            gradients, which have the direction of the loss gradients and do not vanish with growing confidence.

    Raises:
        ValueError: l2 is not positive.
    """

    l2: float = 2.5e-4
    renormalize: bool = False

    def __post_init__(self) -> None:
        if not (self.l2 > 0 and math.isfinite(self.l2)):
            raise ValueError(f"l2 must be positive and finite, got {self.l2}")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); refits the head. Warns when it does not become stationary.

        Raises:
            ConfigError: the model's head is not linear.
        """
        check_trace(trace)
        (body, head), sum_ = _parts(trace.model()), self.decompose(trace)
        norm = float(sum_.gradient.norm())
        note("gradient_norm", norm)
        note("decomposition_error", sum_.error)
        if not sum_.error <= TOLERATED:
            found = f"|grad J| = {norm:.1e}, decomposition error {sum_.error:.1e}"
            warnings.warn(f"the head is not stationary: {found}", stacklevel=2)
        shares = sum_.directions if self.renormalize else sum_.alpha

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            kernel = _inputs(body, head, test.x) @ sum_.inputs.T
            return (kernel * shares.T[test.y]).to(test.x.dtype)

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,): alpha_{i, y_i} |f_i|^2, never negative."""
        check_trace(trace)
        sum_ = self.decompose(trace)
        own = (
            (sum_.directions if self.renormalize else sum_.alpha)
            .gather(1, trace.train.y[:, None])
            .squeeze(1)
        )
        return (own * sum_.inputs.square().sum(1)).to(trace.train.x.dtype)

    def decompose(self, trace: Trace) -> Decomposition:
        """Returns the refitted head beside its sum; `error` tells how far the two are apart. Raises as `fit` does."""
        body, head = _parts(trace.model())
        inputs, y = _inputs(body, head, trace.train.x), trace.train.y
        start = (
            head.weight if head.bias is None else torch.cat([head.weight, head.bias[:, None]], 1)
        )
        return decomposition(refit(start.detach().double(), inputs, y, self.l2), inputs, y, self.l2)


def decomposition(weight: Tensor, inputs: Tensor, y: Tensor, l2: float) -> Decomposition:
    """Returns what any head W makes of the training instances.

    Args:
        weight: (C, D) float64.
        inputs: (n, D) float64.
        y: (n,) int64 labels.
        l2: strength of the regulariser.
    """
    logits = inputs @ weight.T
    alpha = logit_gradient(logits, y, "loss") / (-2 * l2 * len(y))
    ascent = logit_gradient(
        logits, y, "margin"
    )  # minus a positive multiple of the loss gradient: the direction of alpha
    directions = ascent / torch.linalg.vector_norm(ascent, dim=1, keepdim=True)
    return Decomposition(weight, inputs, alpha, directions, _gradient(weight, inputs, y, l2), l2)


def refit(weight: Tensor, inputs: Tensor, y: Tensor, l2: float, steps: int = 100) -> Tensor:
    """Returns the head that minimises J, by Newton's method on the norm of its gradient; arguments as for `decomposition`.

    J is strongly convex, so every Newton step, shortened enough, lowers |grad J|, until it is negligible or rounding stops it.
    """
    gradient = _gradient(weight, inputs, y, l2)
    for _ in range(steps):
        norm = gradient.norm()
        if norm / (2 * l2) <= REACHED * (1 + weight.norm()):
            break
        step = _newton(weight, inputs, gradient, l2)
        for halvings in range(30):
            moved = weight - 0.5**halvings * step
            there = _gradient(moved, inputs, y, l2)
            if there.norm() <= (1 - 0.25 * 0.5**halvings) * norm:
                break
        else:
            break
        weight, gradient = moved, there
    return weight


def _gradient(weight: Tensor, inputs: Tensor, y: Tensor, l2: float) -> Tensor:
    """Returns grad J, (C, D)."""
    return logit_gradient(inputs @ weight.T, y, "loss").T @ inputs / len(y) + 2 * l2 * weight


def _newton(weight: Tensor, inputs: Tensor, gradient: Tensor, l2: float) -> Tensor:
    """Returns the Hessian's inverse times the gradient, (C, D), exact or to a relative residual of 1e-3."""
    p = (inputs @ weight.T).softmax(1)

    def product(v: Tensor) -> Tensor:
        s = p * (inputs @ v.T)
        return (s - p * s.sum(1, keepdim=True)).T @ inputs / len(inputs) + 2 * l2 * v

    if weight.numel() > EXPLICIT:
        rows = gradient.reshape(1, -1)
        solved = conjugate_gradients(
            lambda v: product(v.view_as(weight)).view_as(v), rows, 1e-3, 10 * weight.numel()
        )
        return solved.view_as(weight)
    classes, width = weight.shape
    hessian = torch.zeros(classes, width, classes, width, dtype=weight.dtype, device=weight.device)
    for q, f in zip(p.split(1024), inputs.split(1024), strict=True):
        for c in range(
            classes
        ):  # the block (c, c') is the mean of f f^T weighted by p_c (1[c = c'] - p_c')
            mixed = -q * q[:, c : c + 1]
            mixed[:, c] += q[:, c]
            hessian[c] += torch.einsum("ni,nk,nj->ikj", f, mixed, f) / len(inputs)
    flat = hessian.view(weight.numel(), weight.numel())
    flat.diagonal().add_(2 * l2)
    return torch.cholesky_solve(gradient.reshape(-1, 1), torch.linalg.cholesky(flat)).view_as(
        weight
    )


def _parts(model: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Returns the model's features and its head, which must be linear."""
    body, head = model.features, model.head
    if not isinstance(body, nn.Module) or not isinstance(head, nn.Linear):
        raise ConfigError(
            [f"representer points need a linear head, got {type(head).__name__}"],
            "end the model in nn.Linear",
        )
    return body, head


def _inputs(body: nn.Module, head: nn.Linear, x: Tensor) -> Tensor:
    """Returns what the head's weights multiply, (B, D) float64: the features, and 1 where it has a bias."""
    features = predict(body, x).double()
    return (
        features
        if head.bias is None
        else torch.cat([features, features.new_ones(len(features), 1)], 1)
    )
