"""How far parameters move when the terms of a group of rows leave the objective."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from estimators.kit.conjugate_gradients import Product

Order = Literal["first", "second", "newton"]
# the rows of (s, p) times the inverse of a product
Solver = Callable[[Product, Tensor], Tensor]


def displacement(
    order: Order,
    whole: Product,
    own: list[Product],
    pull: Tensor,
    solve: Solver,
) -> Tensor:
    """Returns how far the parameters move when the terms of each group leave the objective, (s, p).

    With H the Hessian of the objective, H_S that of a group's terms and g_S their gradient: the
    first order is H^-1 g_S; the second adds H^-1 H_S H^-1 g_S, the next term of the Neumann series
    of the Newton step (H - H_S)^-1 g_S. A quadratic objective moves by the Newton step exactly.

    Args:
        order: "first", "second" or "newton".
        whole: product of rows with H.
        own: product of rows with H_S, for each of the s groups.
        pull: g_S, (s, p).
        solve: applies the inverse of a product.
    """
    if not len(pull):
        return pull
    if order == "newton":
        return _newton_steps(whole, own, pull, solve)
    moved = solve(whole, pull)
    if order == "first":
        return moved
    images = [part(u[None]) for part, u in zip(own, moved, strict=True)]
    return moved + solve(whole, torch.cat(images))


def _newton_steps(
    whole: Product,
    own: list[Product],
    pull: Tensor,
    solve: Solver,
) -> Tensor:
    steps = []
    for part, g in zip(own, pull, strict=True):

        def without(v: Tensor, part: Product = part) -> Tensor:
            return whole(v) - part(v)

        steps.append(solve(without, g[None]))
    return torch.cat(steps)
