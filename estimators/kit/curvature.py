"""The curvature of the objective at the final model of a run, by its products with vectors."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estimators.kit.conjugate_gradients import Product
from poisonbench.data import Dataset
from poisonbench.gradients import Layers
from poisonbench.gradients.curvature import Kind, gauss_newton_product, hessian_product
from poisonbench.losses import CROSS_ENTROPY, Loss
from poisonbench.seeding import generator


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
