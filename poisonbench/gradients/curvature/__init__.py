"""Curvature of the loss: products with its matrices, and its inverse by EK-FAC."""

from poisonbench.gradients.curvature.layout import flatten, unflatten
from poisonbench.gradients.curvature.products import (
    Kind,
    gauss_newton_product,
    hessian_product,
)

__all__ = [
    "Kind",
    "flatten",
    "gauss_newton_product",
    "hessian_product",
    "unflatten",
]
