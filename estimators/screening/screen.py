"""Estimates of the sums over checkpoints, from projected gradients, with their standard errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.gradients import Form, Sketch
from poisonbench.seeding import derive
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Projected:
    """The projected gradients of a training set at one checkpoint.

    Attributes:
        sketch: the projection, on d coordinates.
        weight: of the checkpoint.
        unit: gradients are divided by their norms.
        rows: (n, d).
        norms: (n,), of what was projected: 1 for gradients that were divided by their norms.
    """

    sketch: Sketch
    weight: float
    unit: bool
    rows: Tensor
    norms: Tensor

    @classmethod
    def of(
        cls, sketch: Sketch, weight: float, unit: bool, train: Dataset
    ) -> "Projected":
        """Projects the n training instances."""
        rows, norms = _projected(sketch, train, unit)
        return cls(sketch, weight, unit, rows, norms)

    def products(self, test: Dataset) -> tuple[Tensor, Tensor]:
        """Returns the estimated products with m points, and the variances of these, each (m, n).

        A variance is (|g|^2 |g'|^2 + <g, g'>^2) / d, as of Gaussian directions.
        """
        points, lengths = _projected(self.sketch, test, self.unit)
        products = points @ self.rows.T
        products *= self.weight
        variances = torch.outer(lengths, self.norms)
        variances *= self.weight
        variances.square_()
        variances += products.square()
        variances /= self.sketch.k
        return products, variances


def _projected(sketch: Sketch, data: Dataset, unit: bool) -> tuple[Tensor, Tensor]:
    """Returns projected gradients and their norms; both divided by the norms where `unit`."""
    rows, norms = sketch.with_norms(data)
    if not unit:
        return rows, norms
    lengths = norms.masked_fill(norms == 0, torch.inf)
    return rows / lengths[:, None], norms / lengths


@dataclass(frozen=True, eq=False)
class Screen:
    """The projected gradients of a training set at the checkpoints that have a weight."""

    checkpoints: tuple[Projected, ...]

    @classmethod
    def of(
        cls,
        trace: Trace,
        form: Form,
        weights: Sequence[float],
        dimensions: int,
        seed: int,
    ) -> "Screen":
        """Projects the training set of a run; one pass over it for each checkpoint.

        Args:
            trace: gives n training instances and K checkpoints.
            form: which gradients; renormalised, the products are cosines.
            weights: K.
            dimensions: d.
            seed: of the K projections, which are independent.
        """
        found = []
        for k, weight in enumerate(weights):
            if not weight:
                continue
            sketch = Sketch.of(
                model=trace.model(k),
                data=trace.train,
                k=dimensions,
                seed=derive(seed, "screen", k),
                form=form,
            )
            projected = Projected.of(
                sketch=sketch,
                weight=weight,
                unit=form.renormalize == "all",
                train=trace.train,
            )
            found.append(projected)
        return cls(tuple(found))

    def estimates(self, test: Dataset, n: int) -> tuple[Tensor, Tensor]:
        """Returns unbiased estimates of the sums, (m, n), and their standard errors, (m, n)."""
        sums = test.zeros(len(test), n)
        variances = test.zeros(len(test), n)
        for projected in self.checkpoints:
            products, variance = projected.products(test)
            sums += products
            variances += variance
        return sums, variances.sqrt_()

    def bounds(self, test: Dataset, n: int, width: float) -> Tensor:
        """Returns estimates plus `width` standard errors, (m, n); -inf where there are none."""
        sums, errors = self.estimates(test, n)
        sums += width * errors
        unknown = sums.isnan()
        return sums.masked_fill_(unknown, -torch.inf)


def highest_of(values: Tensor, count: int) -> Tensor:
    """Returns which `count` of the values (m, n) of each row are the highest, (m, n) bool."""
    index = values.topk(count).indices
    chosen = torch.zeros_like(values, dtype=torch.bool)
    return chosen.scatter_(1, index, True)
