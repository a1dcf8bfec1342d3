"""Which of two groups of rows an instance is alike: a linear discriminant on features.

Shrunk towards equal variances, as features are many and rows of poison few (Friedman, Journal of
the American Statistical Association 84, 1989).

Cost: O(n d^2 + d^3) for n rows of d features.
"""

import torch
from torch import Tensor

_TINY = 1e-12  # of a variance


def standardised_features(features: Tensor) -> Tensor:
    """Returns features (n, d) in units of their deviation, float64; constant ones as 0."""
    values = features.double()
    values = values - values.mean(0)
    deviation = values.square().mean(0).sqrt()
    constant = deviation < _TINY
    return values / deviation.masked_fill(constant, 1.0)


def likeness(features: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Returns how much more alike the rows are to one group than to another, (n,) float64.

    Above 0: alike the first. Both groups count alike, however many rows they have; the covariance
    within them has the mean variance added to its diagonal.

    Args:
        features: (n, d) float64.
        one: (n,) bool, the rows of the first group, at least one.
        other: (n,) bool, the rows of the second, at least one.
    """
    first = features[one].mean(0)
    second = features[other].mean(0)
    within = torch.cat([features[one] - first, features[other] - second])
    covariance = within.T @ within / len(within)
    variance = covariance.diagonal().mean().clamp(min=_TINY)
    covariance.diagonal().add_(variance)
    direction = torch.linalg.solve(covariance, first - second)
    middle = (first + second) / 2
    scores: Tensor = (features - middle) @ direction
    return scores
