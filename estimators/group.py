"""Influence of groups: what a test point gains from many rows together, which is not the sum of
what it gains from each.

First order: Koh, Ang, Teo & Liang, NeurIPS 2019, arXiv 1905.13289. Second order: Basu, You & Feizi,
ICML 2020, arXiv 1911.00418. Of many copies of a row each matters little and all together much; the
first order, a sum, cannot see that.

Cost: for s groups a solve of s right-hand sides; the second order one product and one more solve; a
Newton step a solve per group.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from estimators.kit.conjugate_gradients import Product, conjugate_gradients
from estimators.kit.curvature import Curvature, default_damping
from estimators.kit.displacement import Order, displacement
from poisonbench.checks import check_choice, check_fraction, check_not_negative
from poisonbench.data import Dataset
from poisonbench.gradients import Form, Layers, gradient_vectors, project
from poisonbench.gradients.curvature import Kind, flatten, unflatten
from poisonbench.models import predict
from poisonbench.models.head import body_of, head_of
from poisonbench.objectives import Measure
from poisonbench.seeding import derive
from poisonbench.training import train_many
from poisonbench.training.many.batches import Convention
from poisonbench.training.trace import Trace, check_points, check_trace

GroupScorer = Callable[[Dataset], Tensor]


@dataclass(frozen=True)
class GroupInfluence:
    """L(without S) - L(with S) at a test point, linear in the test loss.

    The terms of S are deleted and 1/n is kept.

    Attributes:
        order: "first" is the sum of the influence functions of the rows; "second"; "newton".
        curvature: "gauss-newton" (positive definite in nets) or "hessian".
        damping: added to the diagonal of H; None: as `InfluenceFunctions` has it.
        layers: "all" parameters, or "last" for the head's.
        tolerance: relative residual of the conjugate gradients.
        max_steps: of these.

    Raises:
        ValueError: a field out of its range.
    """

    order: Order = "second"
    curvature: Kind = "gauss-newton"
    damping: float | None = None
    layers: Layers = "all"
    tolerance: float = 1e-4
    max_steps: int = 500

    def __post_init__(self) -> None:
        check_choice("order", self.order, get_args(Order))
        check_choice("curvature", self.curvature, get_args(Kind))
        check_choice("layers", self.layers, get_args(Layers))
        if self.damping is not None:
            check_not_negative("damping", self.damping)
        check_fraction("tolerance", self.tolerance)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        if self.layers == "last":
            return ("final model", "head")
        return ("final model",)

    def fit(self, trace: Trace, groups: Tensor) -> GroupScorer:
        """Returns the scorer (m rows) -> (m, s); fit finds how far each group moves the parameters.

        Args:
            trace: gives the final model and its n training instances.
            groups: (s, n) bool.
        """
        check_trace(trace, self)
        check_groups(groups, len(trace.train))
        n = len(trace.train)
        model, points = self._moving(trace.model())
        data = points(trace.train)
        parts = [data.take(group) for group in groups]
        loss = trace.loss
        vectors = [gradient_vectors(model, part, "loss", loss=loss) for part in parts]
        sums = [flatten(v).sum(0) for v in vectors]
        bare = Curvature(model, data, self.curvature, trace.weight_decay, loss=loss)
        damping = self.damping
        if damping is None:
            damping = default_damping(bare, sums[0], 0)
        whole = replace(bare, shift=bare.shift + damping)

        def own(part: Dataset) -> Product:
            h = Curvature(model, part, self.curvature, 0.0, loss=loss)
            return lambda v: h.product(v) * (len(part) / n)

        def solve(product: Product, b: Tensor) -> Tensor:
            return conjugate_gradients(product, b, self.tolerance, self.max_steps)

        rows = displacement(
            self.order,
            whole.product,
            [own(part) for part in parts],
            torch.stack(sums) / n,
            solve,
        )
        moved = unflatten(model, tuple(vectors[0]), rows)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            return project(model, points(test), moved, Form(loss=loss)).T

        return score

    def _moving(
        self, model: nn.Module
    ) -> tuple[nn.Module, Callable[[Dataset], Dataset]]:
        """Returns what moves, the model or its head, and what maps instances to its inputs."""
        if self.layers == "all":
            return model, _unchanged
        body = body_of(model)

        def features(data: Dataset) -> Dataset:
            return Dataset(predict(body, data.x).flatten(1), data.y, data.classes)

        return head_of(model), features


def _unchanged(data: Dataset) -> Dataset:
    return data


def retrained(
    trace: Trace,
    groups: Tensor,
    test: Dataset,
    measure: Measure = "loss",
    repeats: int = 1,
    convention: Convention = "B",
) -> tuple[Tensor, Tensor]:
    """Returns the influence of each group by training without it, and its standard error over the
    repeats, (m, s) each.

    The runs are paired as those of leave-one-out: same start, same batches, of which the group is
    missing.

    Args:
        trace: gives data, recipe and the seed of the first repeat; its scratch folder keeps restart
            blocks.
        groups: (s, n) bool.
        test: m points.
        measure: F: "loss" (minus the cross entropy), "margin" or "correct"; the score is F with the
            group minus F without.
        repeats: pairs of runs of each group; one alone has NaN errors.
        convention: "B": every batch the mean over the rows present; "A": over its full size.

    Raises:
        ValueError: groups are not (s, n) bool, or none.
    """
    check_trace(trace)
    check_groups(groups, len(trace.train))
    everyone = torch.ones_like(groups[:1])
    masks = torch.cat([everyone, ~groups]).cpu()
    more = [derive(trace.seed, "group", r) for r in range(1, repeats)]
    seeds = [trace.seed, *more]
    ensemble = train_many(
        trace.train,
        masks.repeat(repeats, 1),
        trace.by_recipe,
        [seed for seed in seeds for _ in masks],
        batches="full",
        convention=convention,
        scratch=trace.scratch,
    )
    values = ensemble.utility(test, measure, trace.loss)
    by_repeat = values.unflatten(0, (repeats, -1))  # (repeats, 1 + s, m)
    gains = (by_repeat[:, :1] - by_repeat[:, 1:]).mT
    mean = gains.mean(0)
    if repeats == 1:
        return mean, torch.full_like(mean, torch.nan)
    return mean, gains.std(0) / repeats**0.5


def check_groups(groups: Tensor, n: int) -> None:
    """Refuses groups that are not (s, n) bool, s >= 1, each with a row and not with all.

    Raises:
        ValueError: which rule is broken.
    """
    if (
        groups.dtype != torch.bool
        or groups.dim() != 2
        or groups.shape[1] != n
        or not len(groups)
    ):
        found = f"{tuple(groups.shape)} {groups.dtype}"
        raise ValueError(f"groups must be (s, {n}) bool with s >= 1, got {found}")
    sizes = groups.sum(1)
    least = int(sizes.min())
    most = int(sizes.max())
    if least < 1 or most == n:
        raise ValueError(
            f"a group has at least one row and not all {n}, got sizes {least} to {most}"
        )
