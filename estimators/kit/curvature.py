"""The curvature of the objective at the final model of a run, by its products with vectors."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from estimators.kit.conjugate_gradients import Product
from poisonbench.data import Dataset
from poisonbench.gradients import Layers
from poisonbench.gradients.curvature import Kind, gauss_newton_product, hessian_product
from poisonbench.losses import CROSS_ENTROPY, Loss
from poisonbench.notes import note
from poisonbench.seeding import generator

# share of the trace: by the linear datamodeling score on digits, MNIST and Fashion-MNIST
DAMPING = 1e-3
PROBES = 8  # products of which the trace is the mean


@dataclass(frozen=True, eq=False)
class Curvature:
    """H = curvature of the mean loss + shift I.

    Attributes:
        model: in evaluation mode.
        train: n instances.
        kind: "gauss-newton" or "hessian".
        shift: weight decay and damping.
        layers: "all" parameters, or "last" for the head's.
        loss: of the run.
    """

    model: nn.Module
    train: Dataset
    kind: Kind
    shift: float
    layers: Layers = "all"
    loss: Loss = CROSS_ENTROPY

    def product(self, vectors: Tensor) -> Tensor:
        """Returns H v for m vectors, (m, p)."""
        return self._on(self.train, vectors)

    def sampled(self, size: int, seed: int) -> Product:
        """Returns the product with H of `size` instances, drawn afresh at every call."""
        draws = generator(seed, "lissa")

        def product(vectors: Tensor) -> Tensor:
            order = torch.randperm(len(self.train), generator=draws)
            return self._on(self.train.take(order[:size]), vectors)

        return product

    def _on(self, data: Dataset, vectors: Tensor) -> Tensor:
        product = gauss_newton_product
        if self.kind == "hessian":
            product = hessian_product
        return product(self.model, data, vectors, self.shift, self.layers, self.loss)


def default_damping(
    curvature: Curvature, theta: Tensor, seed: int, size: int = PROBES
) -> float:
    """Returns a thousandth of the trace of the Gauss-Newton matrix of the mean loss, in the log.

    The trace is estimated by random signs z, E z^T G z = tr G (Hutchinson, Communications in
    Statistics 1989). 1 where there is no curvature at all: then every H will do.

    Args:
        curvature: of any kind, damped or not.
        theta: (p,), the parameters; only their number, type and device count.
        seed: of the signs.
        size: vectors multiplied at a time, at most.
    """
    bare = replace(curvature, kind="gauss-newton", shift=0.0)
    draws = generator(seed, "trace")
    drawn = torch.randint(2, (PROBES, len(theta)), generator=draws)
    signs = (2 * drawn - 1).to(theta)
    traces = [(z * bare.product(z)).sum(1) for z in signs.split(max(1, size))]
    found = DAMPING * float(torch.cat(traces).mean()) or 1.0
    note("damping", found)
    return found
