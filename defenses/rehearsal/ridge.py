"""Logistic regression whose weights are drawn to given ones, by Newton's method.

Cost: O(k f^2 + f^3) a step, for k points with f features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 100
HALVINGS = 30
ENOUGH = 1e-10  # largest entry of the gradient at which it ends
FLAT = 1e-9  # curvature of the bias where all points lie far on their sides


@dataclass(frozen=True, eq=False)
class Problem:
    """A weighted mean of log losses + (ridge / 2) |weights - towards|^2; the bias is free.

    Attributes:
        features: (k, f) float64.
        positive: (k,) bool, the class; both must occur.
        share: (k,) float64, the weight of each point, of sum 1.
        towards: (f,) float64, what the weights are without points.
        ridge: above 0.
    """

    features: Tensor
    positive: Tensor
    share: Tensor
    towards: Tensor
    ridge: float

    def margins(self, at: Tensor) -> Tensor:
        """Returns how far each point lies on its side of weights and bias `at`, (f + 1,): (k,)."""
        values = self.features @ at[:-1] + at[-1]
        return torch.where(self.positive, values, -values)

    def objective(self, at: Tensor) -> Tensor:
        """Returns what is minimised, ()."""
        loss = F.softplus(-self.margins(at))
        away = at[:-1] - self.towards
        of_points: Tensor = self.share @ loss
        return of_points + self.ridge / 2 * away.square().sum()

    def gradient(self, at: Tensor) -> Tensor:
        """Returns its gradient, (f + 1,)."""
        pull = self.share * torch.sigmoid(-self.margins(at))
        pull = torch.where(self.positive, -pull, pull)
        penalty = self.ridge * (at[:-1] - self.towards)
        of_weights = self.features.T @ pull + penalty
        return torch.cat([of_weights, pull.sum(0, keepdim=True)])

    def curvature(self, at: Tensor) -> Tensor:
        """Returns its matrix of second derivatives, (f + 1, f + 1)."""
        p = torch.sigmoid(self.margins(at))
        one = torch.ones_like(self.share)
        inputs = torch.cat([self.features, one[:, None]], 1)
        weighted = inputs * (self.share * p * (1 - p))[:, None]
        penalty = torch.full_like(at, self.ridge)
        penalty[-1] = FLAT
        of_points: Tensor = inputs.T @ weighted
        return of_points + torch.diag(penalty)


@dataclass(frozen=True, eq=False)
class Fit:
    """A logistic regression.

    Attributes:
        weights: (f,) float64.
        bias: of the log odds.
    """

    weights: Tensor
    bias: float


def solve(problem: Problem) -> Fit:
    """Returns the minimiser. A step of Newton's method that does not lower it is halved."""
    none = problem.towards.new_zeros(1)
    at = torch.cat([problem.towards, none])
    for _ in range(STEPS):
        slope = problem.gradient(at)
        if float(slope.abs().max()) <= ENOUGH:
            break
        step = torch.linalg.solve(problem.curvature(at), slope)
        at = _lower(problem, at, step)
    return Fit(at[:-1], float(at[-1]))


def _lower(problem: Problem, at: Tensor, step: Tensor) -> Tensor:
    """Returns at - step, or less of the step, where the objective is lower."""
    before = problem.objective(at)
    for halvings in range(HALVINGS):
        part = 0.5**halvings
        there: Tensor = at - part * step
        if bool(problem.objective(there) <= before):
            return there
    return at
