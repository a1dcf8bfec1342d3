"""EK-FAC: the Gauss-Newton matrix in an eigenbasis of Kronecker factors (George et al., NeurIPS 2018,
arXiv 1806.03884).

A linear layer or a convolution of one group has a block, with the eigenvectors of the Kronecker
factors E[a a^T] and E[d d^T] as its basis: inputs a (a constant 1 for the bias) and output gradients
d, summed over the places of a convolution (Grosse & Martens 2016, arXiv 1602.01407). The eigenvalues
are the second moments of the per-example gradients in that basis. All other parameters, and those of
layers that do not compute what their type says (parametrised, shared, with a forward of their own),
have diagonal blocks of exact second moments. Used for influence functions by Grosse et al. 2023
(arXiv 2308.03296).

Cost: 2 passes over the data per label, O(n p (inputs + outputs)) flops each, and one
eigendecomposition per factor; then O(p (inputs + outputs)) per vector.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.forms import Ghost, Grad
from poisonbench.gradients.layout import layout, matrix
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning import plan
from poisonbench.memory import batches, halving, room
from poisonbench.models import predict
from poisonbench.seeding import exact_arithmetic, generator

FACTORS_ONLY = 0  # gradients to be multiplied with no others keep their factors


@dataclass(frozen=True, eq=False)
class Pair:
    """A matrix on each side of a layer's weight matrix: Kronecker factors, or their eigenvectors.

    Attributes:
        outputs: (o, o).
        inputs: (i, i); where the layer has a bias the last input is the constant 1.
    """

    outputs: Tensor
    inputs: Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's block of the curvature.

    Attributes:
        index: (p_layer,) int64, the entries of a vector that it acts on.
        bases: eigenvectors of the factors, as columns; None for a diagonal block.
        values: (o, i) or (p_layer,) eigenvalues.
    """

    index: Tensor
    bases: Pair | None
    values: Tensor

    def solve(self, rows: Tensor, shift: float) -> Tensor:
        """Returns (block + shift I)^-1 rows for rows (m, p_layer).

        A direction in which block + shift I is 0 holds no training gradient: it is left out.
        """
        damped = self.values + shift
        inverse = torch.where(damped > 0, 1 / damped, torch.zeros_like(damped))
        if self.bases is None:
            return rows * inverse
        left = self.bases.outputs
        right = self.bases.inputs
        weights = rows.view(-1, *self.values.shape)
        inside = left.T @ weights @ right
        solved = left @ (inside * inverse) @ right.T
        return solved.flatten(1)


def blocks(
    model: nn.Module, data: Dataset, samples: int = 0, seed: int = 0, layers: Layers = "all"
) -> list[Block]:
    """Returns the blocks of the curvature of the mean cross entropy, which cover all parameters.

    Args:
        model: in evaluation mode.
        data: n instances; their labels are not used.
        samples: labels drawn from the model's prediction for every instance, once for the bases and
            again for the eigenvalues: eigenvalues of the gradients that chose the basis are too far
            apart. 0: the exact expectation over all labels, a pass per class.
        seed: of the drawn labels.
        layers: "all" parameters, or "last" for the head's.

    Raises:
        ValueError: the model is in training mode, has nothing to differentiate, or its gradients
            are not finite.
    """
    with exact_arithmetic(), torch.no_grad():
        how = plan(model, layers, data.x)
        index = layout(model, how, data, FACTORS_ONLY)
        for_bases = labelled(model, data, samples, generator(seed, "ekfac", "bases"))
        for_values = labelled(model, data, samples, generator(seed, "ekfac", "eigenvalues"))

        def build(size: int) -> list[Block]:
            factors = _factors(_batches(model, how, for_bases, size))
            bases = [_eigenvectors(pair) for pair in factors]
            values = _moments(_batches(model, how, for_values, size), bases)
            return [Block(*parts) for parts in zip(index, bases, values, strict=True)]

        return halving(build, room(data, how.size)[1])


def solve(parts: list[Block], vectors: Tensor, shift: float, relative: float = 0.0) -> Tensor:
    """Returns (curvature + damping)^-1 v for m vectors, (m, p).

    Args:
        parts: from `blocks`.
        vectors: (m, p).
        shift: added to all eigenvalues.
        relative: times the mean eigenvalue of a block, added to the eigenvalues of that block:
            layers differ by orders of magnitude, and so does what is small for them.
    """
    out = torch.empty_like(vectors)
    for block in parts:
        damping = shift + relative * float(block.values.mean())
        out[:, block.index] = block.solve(vectors[:, block.index], damping)
    return out


@dataclass(frozen=True, eq=False)
class Labelled:
    """The instances with labels of the model's, each with a weight.

    Attributes:
        data: n instances.
        weight: (n,), over all `Labelled` of one expectation summing to 1.
    """

    data: Dataset
    weight: Tensor


def labelled(
    model: nn.Module, data: Dataset, samples: int, draws: torch.Generator
) -> list[Labelled]:
    """Returns what an expectation over the model's labels runs over: S draws, or all labels (0)."""
    probability = predict(model, data.x).softmax(1)
    if samples == 0:
        return [
            Labelled(data.relabel(torch.full_like(data.y, c)), probability[:, c] / len(data))
            for c in range(probability.shape[1])
        ]
    drawn = torch.multinomial(probability.cpu(), samples, replacement=True, generator=draws)
    even = torch.full_like(probability[:, 0], 1 / (samples * len(data)))
    return [Labelled(data.relabel(y), even) for y in drawn.T]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Per-example gradients of all layers for B instances, and the weights of these, (B,)."""

    gradients: list[Grad]
    weight: Tensor


def _batches(model: nn.Module, how: Plan, sets: list[Labelled], size: int) -> Iterator[_Batch]:
    for part in sets:
        weights = part.weight.split(size)
        for rows, weight in zip(batches(part.data, size), weights, strict=True):
            found = per_example(model, how, rows, "loss", FACTORS_ONLY, rescale=False)
            yield _Batch([gradient for gradient, _ in found], weight)


def _factors(parts: Iterator[_Batch]) -> list[Pair | None]:
    """Returns the Kronecker factors of every layer; None for a diagonal block."""
    sums: list[Pair | None] = []
    for batch in parts:
        terms = [_factor_terms(gradient, batch.weight) for gradient in batch.gradients]
        if sums:
            terms = [_added(a, b) for a, b in zip(sums, terms, strict=True)]
        sums = terms
    return sums


def _factor_terms(gradient: Grad, weight: Tensor) -> Pair | None:
    if not isinstance(gradient, Ghost):
        return None
    places = gradient.a.shape[1]
    inputs = gradient.a.flatten(0, 1)
    outputs = gradient.d.flatten(0, 1)
    w = weight.repeat_interleave(places)[:, None]
    return Pair((w * outputs).T @ outputs, (w * inputs).T @ inputs)


def _added(a: Pair | None, b: Pair | None) -> Pair | None:
    if a is None or b is None:
        return None
    return Pair(a.outputs + b.outputs, a.inputs + b.inputs)


def _eigenvectors(factors: Pair | None) -> Pair | None:
    if factors is None:
        return None
    return Pair(eigenvectors(factors.outputs), eigenvectors(factors.inputs))


def eigenvectors(factor: Tensor) -> Tensor:
    """Returns the eigenvectors of a symmetric matrix (k, k) as columns, in its dtype.

    Decomposed in float64: factors of rank below k, as of layers with more inputs than instances or
    with dead units, have many eigenvalues that float32 cannot part, and its solver fails on them.

    Raises:
        ValueError: an entry is not finite.
    """
    if not bool(factor.isfinite().all()):
        raise ValueError("a Kronecker factor is not finite: the model's gradients overflow")
    wide: Tensor = torch.linalg.eigh(factor.double()).eigenvectors
    return wide.to(factor.dtype)


def _moments(parts: Iterator[_Batch], bases: list[Pair | None]) -> list[Tensor]:
    """Returns the weighted second moments of every layer's gradients in its basis."""
    sums: list[Tensor] = []
    for batch in parts:
        terms = [
            _moment_term(gradient, basis, batch.weight)
            for gradient, basis in zip(batch.gradients, bases, strict=True)
        ]
        if sums:
            terms = [a + b for a, b in zip(sums, terms, strict=True)]
        sums = terms
    return sums


def _moment_term(gradient: Grad, basis: Pair | None, weight: Tensor) -> Tensor:
    if basis is None:
        return weight @ matrix(gradient).square()
    assert isinstance(gradient, Ghost)
    inputs = gradient.a @ basis.inputs  # (B, L, i)
    outputs = gradient.d @ basis.outputs  # (B, L, o)
    if inputs.shape[1] == 1:  # the square of an outer product is that of the squares
        weighted = weight[:, None] * outputs[:, 0].square()
        return weighted.T @ inputs[:, 0].square()
    squares = (outputs.mT @ inputs).square_()  # (B, o, i)
    return torch.einsum("b,boi->oi", weight, squares)
