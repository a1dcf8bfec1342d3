"""Influence of groups: what a test point gains from many rows together, which is not the sum of what it gains from each.

First order: Koh, Ang, Teo & Liang, NeurIPS 2019, arXiv 1905.13289. Second order: Basu, You & Feizi, ICML 2020, arXiv 1911.00418.
Of many copies of a row each matters little and all together much; the first order, a sum, cannot see that.

Needs: final model, or retrained models, one a group and repeat.

Cost: for s groups a solve of s right-hand sides; the second order one product and one more solve; a Newton step a solve a group.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from estimators.kit.solvers import Product, conjugate_gradients
from poisonbench.data import Dataset
from poisonbench.gradients import Layers, gradient_vectors
from poisonbench.gradients.curvature import (
    Kind,
    flatten,
    gauss_newton_product,
    hessian_product,
    unflatten,
)
from poisonbench.gradients.products import Form, project
from poisonbench.models import predict
from poisonbench.objectives import Measure
from poisonbench.seeding import derive
from poisonbench.training import train_many
from poisonbench.training.many.batches import Convention
from poisonbench.training.trace import Trace, check_points, check_trace

Order = Literal["first", "second", "newton"]
Solver = Callable[[Product, Tensor], Tensor]  # the rows of (s, p) times the inverse of a product
GroupScorer = Callable[[Dataset], Tensor]


def displacement(
    order: Order, whole: Product, own: list[Product], pull: Tensor, solve: Solver
) -> Tensor:
    """Returns how far the parameters move when the terms of each group leave the objective, (s, p).

    With H the Hessian of the objective, H_S that of a group's terms and g_S their gradient: the first order is H^-1 g_S; the
    second adds H^-1 H_S H^-1 g_S, the next term of the Neumann series of the Newton step (H - H_S)^-1 g_S. A quadratic
    objective moves by the Newton step exactly.

    Args:
        order: "first", "second" or "newton".
        whole: product of rows with H.
        own: product of rows with H_S, for each of the s groups.
        pull: g_S, (s, p).
        solve: applies the inverse of a product.
    """
    if order == "newton":
        steps = []
        for part, g in zip(own, pull, strict=True):

            def without(v: Tensor, part: Product = part) -> Tensor:
                return whole(v) - part(v)

            steps.append(solve(without, g[None]))
        return torch.cat(steps) if steps else pull
    moved = solve(whole, pull)
    if order == "first" or not len(pull):
        return moved
    return moved + solve(
        whole, torch.cat([part(u[None]) for part, u in zip(own, moved, strict=True)])
    )


@dataclass(frozen=True)
class GroupInfluence:
    """L(without S) - L(with S) at a test point, linear in the test loss; the terms of S are deleted and 1/n is kept.

    Attributes:
        order: "first" is the sum of the influence functions of the rows; "second"; "newton".
        curvature: "gauss-newton" (positive definite in nets) or "hessian".
        damping: added to the diagonal of H.
        layers: "all" parameters, or "last" for the head's.
        tolerance: relative residual of the conjugate gradients.
        max_steps: of these.

    Raises:
        ValueError: a field out of its range.
    """

    order: Order = "second"
    curvature: Kind = "gauss-newton"
    damping: float = 1e-2
    layers: Layers = "all"
    tolerance: float = 1e-4
    max_steps: int = 500

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise ValueError(
                f"order must be one of {', '.join(get_args(Order))}, got {self.order!r}"
            )
        if self.curvature not in get_args(Kind):
            raise ValueError(
                f"curvature must be one of {', '.join(get_args(Kind))}, got {self.curvature!r}"
            )
        if self.damping < 0:
            raise ValueError(f"damping must be non-negative, got {self.damping}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {self.tolerance}")

    def fit(self, trace: Trace, groups: Tensor) -> GroupScorer:
        """Returns the scorer (m rows) -> (m, s) for `groups`, (s, n) bool; fit finds how far each moves the parameters."""
        check_trace(trace)
        check_groups(groups, len(trace.train))
        n, (model, points) = len(trace.train), self._part(trace.model())
        data = points(trace.train)
        product = hessian_product if self.curvature == "hessian" else gauss_newton_product
        parts = [data.take(group) for group in groups]
        vectors = [gradient_vectors(model, part, "loss") for part in parts]
        names = tuple(vectors[0])
        pull = torch.stack([flatten(v).sum(0) for v in vectors]) / n
        shift = trace.recipe.weight_decay + self.damping

        def whole(v: Tensor) -> Tensor:
            return product(model, data, v, shift)

        def own(part: Dataset) -> Product:
            return lambda v: product(model, part, v, 0.0) * (len(part) / n)

        def solve(matrix: Product, b: Tensor) -> Tensor:
            return conjugate_gradients(matrix, b, self.tolerance, self.max_steps)

        moved = unflatten(
            model,
            names,
            displacement(self.order, whole, [own(part) for part in parts], pull, solve),
        )

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            return project(model, points(test), moved, Form()).T

        return score

    def _part(self, model: nn.Module) -> tuple[nn.Module, Callable[[Dataset], Dataset]]:
        """Returns what moves, the model or its head alone, and what maps instances to its inputs."""
        if self.layers == "all":
            return model, lambda data: data
        body, head = model.get_submodule("features"), model.get_submodule("head")
        return head, lambda data: Dataset(predict(body, data.x), data.y, data.classes)


def retrained(
    trace: Trace,
    groups: Tensor,
    test: Dataset,
    measure: Measure = "loss",
    repeats: int = 1,
    convention: Convention = "B",
) -> tuple[Tensor, Tensor]:
    """Returns the influence of each group by training without it, and its standard error over the repeats, (m, s) each.

    The runs are paired as those of leave-one-out: same start, same batches, of which the group is missing.

    Args:
        trace: gives data, recipe and the seed of the first repeat; its scratch folder keeps restart blocks.
        groups: (s, n) bool.
        test: m points.
        measure: F: "loss" (minus the cross entropy), "margin" or "correct"; the score is F with the group minus F without.
        repeats: pairs of runs of each group; one alone has NaN errors.
        convention: "B": every batch the mean over the rows present; "A": over its full size.

    Raises:
        ValueError: groups are not (s, n) bool, or none.
    """
    check_trace(trace)
    check_groups(groups, len(trace.train))
    masks = torch.cat([torch.ones_like(groups[:1]), ~groups]).cpu()
    seeds = [trace.seed] + [derive(trace.seed, "group", r) for r in range(1, repeats)]
    ensemble = train_many(
        trace.train,
        masks.repeat(repeats, 1),
        trace.recipe,
        [seed for seed in seeds for _ in masks],
        batches="full",
        convention=convention,
        scratch=trace.scratch,
    )
    values = ensemble.utility(test, measure).unflatten(0, (repeats, -1))  # (repeats, 1 + s, m)
    gains = (values[:, :1] - values[:, 1:]).mT
    error = gains.std(0) / repeats**0.5 if repeats > 1 else torch.full_like(gains[0], torch.nan)
    return gains.mean(0), error


def check_groups(groups: Tensor, n: int) -> None:
    """Raises ValueError for groups that are not (s, n) bool, s >= 1, each with a row and not with all."""
    if groups.dtype != torch.bool or groups.dim() != 2 or groups.shape[1] != n or not len(groups):
        raise ValueError(
            f"groups must be (s, {n}) bool with s >= 1, got {tuple(groups.shape)} {groups.dtype}"
        )
    sizes = groups.sum(1)
    if int(sizes.min()) < 1 or int(sizes.max()) == n:
        raise ValueError(
            f"a group has at least one row and not all {n}, got sizes {int(sizes.min())} to {int(sizes.max())}"
        )
