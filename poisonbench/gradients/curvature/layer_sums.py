"""One layer's share of a Gauss-Newton product with m vectors: sum_i sum_c w_ic g_ic, class by
class.

The weights are (B, m): each vector has its own.
"""

from typing import Protocol

import torch
from torch import Tensor

from poisonbench.gradients.curvature.layout import matrix
from poisonbench.gradients.embedding import Sparse
from poisonbench.gradients.forms import Dense, Ghost, Grad


class LayerSum(Protocol):
    """What is known of a layer while the classes are gone through."""

    def along(self, gradients: Grad) -> Tensor:
        """Returns <g_ic, v> for the layer's part of the vectors and one class, (B, m)."""
        ...

    def add(self, gradients: Grad, weights: Tensor) -> None:
        """Adds w_ic g_ic for the weights (B, m) of one class."""
        ...

    def total(self) -> Tensor:
        """Returns the sum over all classes and instances, (m, p_layer)."""
        ...


def layer_sum(gradients: Grad, vectors: Tensor) -> LayerSum:
    """Returns an empty sum for a layer with these gradients, and its part of the vectors."""
    if isinstance(gradients, Ghost):
        return GhostSum(gradients, vectors)
    if isinstance(gradients, Sparse):
        return SparseSum(gradients, vectors)
    return DenseSum(vectors)


class DenseSum:
    """Of a layer whose gradients are held, those of one class at a time."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors
        self.sum = torch.zeros_like(vectors)

    def along(self, gradients: Grad) -> Tensor:
        """See `LayerSum`."""
        return matrix(gradients) @ self.vectors.T

    def add(self, gradients: Grad, weights: Tensor) -> None:
        """See `LayerSum`."""
        self.sum.addmm_(weights.T, matrix(gradients))

    def total(self) -> Tensor:
        """See `LayerSum`."""
        return self.sum


class SparseSum:
    """Of a table of vectors, (V, e), whose gradients are held by the rows that are looked up.

    Attributes:
        vectors: (m, V e).
        sum: (V, e, m).
    """

    def __init__(self, gradients: Sparse, vectors: Tensor) -> None:
        self.vectors = Dense(vectors)
        width = gradients.values.shape[2]
        self.sum = vectors.new_zeros(gradients.rows, width, len(vectors))

    def along(self, gradients: Grad) -> Tensor:
        """See `LayerSum`."""
        return gradients.dot(self.vectors)

    def add(self, gradients: Grad, weights: Tensor) -> None:
        """See `LayerSum`."""
        assert isinstance(gradients, Sparse)
        gradients.add_to(self.sum, weights)

    def total(self) -> Tensor:
        """See `LayerSum`."""
        by_vector = self.sum.permute(2, 0, 1)
        return by_vector.flatten(1)


class GhostSum:
    """Of a layer kept by its factors: its inputs, the same for all classes, are multiplied once.

    Attributes:
        places: L.
        inputs: (B L, i + 1).
        forward: (B, m, L o), the inputs times the weight matrices that the vectors are.
        back: (B, m, L o), the sum of weighted output gradients.
    """

    def __init__(self, gradients: Ghost, vectors: Tensor) -> None:
        rows, self.places, width = gradients.a.shape
        m = len(vectors)
        outputs = gradients.d.shape[2]
        self.inputs = gradients.a.reshape(-1, width)
        weights = vectors.view(m * outputs, width)
        images = self.inputs @ weights.T
        by_place = images.view(rows, self.places, m, outputs)
        by_vector = by_place.transpose(1, 2)
        self.forward = by_vector.reshape(rows, m, self.places * outputs)
        self.back = torch.zeros_like(self.forward)

    def along(self, gradients: Grad) -> Tensor:
        """See `LayerSum`."""
        d = _output_gradients(gradients)
        products = torch.bmm(self.forward, d[:, :, None])
        return products.squeeze(2)

    def add(self, gradients: Grad, weights: Tensor) -> None:
        """See `LayerSum`."""
        d = _output_gradients(gradients)
        self.back.addcmul_(weights[:, :, None], d[:, None])

    def total(self) -> Tensor:
        """See `LayerSum`."""
        rows, m, _ = self.back.shape
        by_vector = self.back.view(rows, m, self.places, -1)
        by_place = by_vector.transpose(1, 2)
        d = by_place.reshape(rows * self.places, -1)
        product = d.T @ self.inputs
        return product.view(m, -1)


def _output_gradients(gradients: Grad) -> Tensor:
    """Returns the gradients at a layer's outputs, (B, L o)."""
    assert isinstance(gradients, Ghost)
    return gradients.d.flatten(1)
