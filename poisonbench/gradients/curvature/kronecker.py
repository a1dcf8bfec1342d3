"""Kronecker factors of a layer's curvature, their eigenvectors, and moments in that basis."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.device.eigenvectors import eigh
from poisonbench.gradients.curvature.layout import matrix
from poisonbench.gradients.embedding import Sparse
from poisonbench.gradients.forms import Ghost, Grad


@dataclass(frozen=True, eq=False)
class Pair:
    """A matrix on each side of a layer's weight matrix: Kronecker factors, or their eigenvectors.

    Attributes:
        outputs: (o, o).
        inputs: (i, i); where the layer has a bias the last input is the constant 1.
    """

    outputs: Tensor
    inputs: Tensor

    def __add__(self, other: "Pair") -> "Pair":
        """Returns the sum on each side."""
        return Pair(
            self.outputs + other.outputs,
            self.inputs + other.inputs,
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Per-example gradients of all layers for B instances.

    Attributes:
        gradients: a layer each.
        weight: (B,), of the instances.
    """

    gradients: list[Grad]
    weight: Tensor


def factors(parts: Iterable[Batch]) -> dict[int, Pair]:
    """Returns E[d d^T] and E[a a^T] of every layer in the form `Ghost`, by its number."""
    sums: dict[int, Pair] = {}
    for batch in parts:
        for k, gradient in enumerate(batch.gradients):
            if not isinstance(gradient, Ghost):
                continue
            term = _factor_term(gradient, batch.weight)
            sums[k] = sums[k] + term if k in sums else term
    return sums


def _factor_term(gradient: Ghost, weight: Tensor) -> Pair:
    places = gradient.a.shape[1]
    inputs = gradient.a.flatten(0, 1)  # (B L, i)
    outputs = gradient.d.flatten(0, 1)  # (B L, o)
    w = weight.repeat_interleave(places)[:, None]
    if gradient.words:  # padding has no gradient, and no factor shall see its inputs
        w = w * outputs.any(1, keepdim=True)
    return Pair(
        (w * outputs).T @ outputs,
        (w * inputs).T @ inputs,
    )


def eigenbasis(pair: Pair) -> Pair:
    """Returns the eigenvectors of both factors, as columns."""
    return Pair(
        eigenvectors(pair.outputs),
        eigenvectors(pair.inputs),
    )


def eigenvectors(factor: Tensor) -> Tensor:
    """Returns the eigenvectors of a symmetric matrix (k, k) as columns, in its dtype.

    Raises:
        ValueError: an entry is not finite.
    """
    if not bool(factor.isfinite().all()):
        raise ValueError(
            "a Kronecker factor is not finite: the model's gradients overflow; "
            "take the checkpoint before, or float64"
        )
    _, vectors = eigh(factor)
    return vectors


def moments(parts: Iterable[Batch], bases: dict[int, Pair]) -> dict[int, Tensor]:
    """Returns the second moments of every layer's gradients in its basis, by its number.

    Those of a layer without a basis are of its entries, (p_layer,); the others (o, i).
    """
    sums: dict[int, Tensor] = {}
    for batch in parts:
        for k, gradient in enumerate(batch.gradients):
            term = _moment_term(gradient, bases.get(k), batch.weight)
            sums[k] = sums[k] + term if k in sums else term
    return sums


def _moment_term(gradient: Grad, basis: Pair | None, weight: Tensor) -> Tensor:
    if isinstance(gradient, Sparse):
        _, _, width = gradient.values.shape
        moments = weight.new_zeros(gradient.rows, width, 1)
        gradient.squared().add_to(moments, weight[:, None])
        return moments.flatten()
    if basis is None:
        return weight @ matrix(gradient).square()
    assert isinstance(gradient, Ghost)
    inputs = gradient.a @ basis.inputs  # (B, L, i)
    outputs = gradient.d @ basis.outputs  # (B, L, o)
    if inputs.shape[1] == 1:  # the square of an outer product is that of the squares
        weighted = weight[:, None] * outputs[:, 0].square()
        return weighted.T @ inputs[:, 0].square()
    whole = outputs.mT @ inputs  # (B, o, i)
    return torch.einsum("b,boi->oi", weight, whole.square_())
