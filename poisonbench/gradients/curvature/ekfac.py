"""EK-FAC: the Gauss-Newton matrix in an eigenbasis of Kronecker factors (George et al., NeurIPS
2018, arXiv 1806.03884).

A linear layer or a convolution of one group has a block, with the eigenvectors of the Kronecker
factors E[a a^T] and E[d d^T] as its basis: inputs a (a constant 1 for the bias) and output
gradients d, summed over the places of a convolution (Grosse & Martens 2016, arXiv 1602.01407). The
eigenvalues are the second moments of the per-example gradients in that basis. All other parameters,
and those of layers that do not compute what their type says (parametrised, shared, with a forward
of their own), have diagonal blocks of exact second moments. Used for influence functions by Grosse
et al. 2023 (arXiv 2308.03296).

Cost: 2 forward passes over the data and 2 backward passes per label, O(n p (inputs + outputs))
flops each, and one eigendecomposition per factor; then O(p (inputs + outputs)) per vector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.curvature.kronecker import (
    Batch,
    Pair,
    eigenbasis,
    factors,
    moments,
)
from poisonbench.gradients.curvature.labels import Labelled, labelled
from poisonbench.gradients.curvature.layout import layout
from poisonbench.gradients.curvature.terms import term_gradients
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning.plan import plan
from poisonbench.losses import (
    CROSS_ENTROPY,
    Loss,
    check_cross_entropy,
    seeds_of,
)
from poisonbench.memory import batches, halving, room
from poisonbench.seeding import exact_arithmetic, generator

FACTORS_ONLY = 0  # gradients to be multiplied with no others keep their factors


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
        nothing = torch.zeros_like(damped)
        inverse = torch.where(damped > 0, 1 / damped, nothing)
        if self.bases is None:
            return rows * inverse
        left = self.bases.outputs
        right = self.bases.inputs
        weights = rows.view(-1, *self.values.shape)
        inside = left.T @ weights @ right
        solved = left @ (inside * inverse) @ right.T
        return solved.flatten(1)


def blocks(
    model: nn.Module,
    data: Dataset,
    samples: int = 0,
    seed: int = 0,
    layers: Layers = "all",
    loss: Loss = CROSS_ENTROPY,
) -> list[Block]:
    """Returns the blocks of the curvature of the mean loss, which cover all parameters.

    Args:
        model: in evaluation mode.
        data: n instances; for cross entropy their labels are not used.
        samples: labels drawn from the model's prediction for every instance, once for the bases and
            again for the eigenvalues: a basis stretches along the gradients that it was made from.
            0: the exact expectation over all labels, a pass per class.
        seed: of the drawn labels.
        layers: "all" parameters, or "last" for the head's.
        loss: of which it is the curvature; negative curvature at the outputs is left out.

    Raises:
        ConfigError: labels are to be drawn, and the loss is no cross entropy.
        ModelError: (a ValueError) as `plan` raises it.
        ValueError: gradients are not finite.
    """
    with exact_arithmetic(), torch.no_grad():
        how = plan(model, layers, data.x)
        index = layout(model, how, data, FACTORS_ONLY)
        source = _source(model, how, data, samples, loss)
        for_bases = source(generator(seed, "ekfac", "bases"))
        for_values = source(generator(seed, "ekfac", "eigenvalues"))

        def build(size: int) -> list[Block]:
            pairs = factors(for_bases(size))
            bases = {k: eigenbasis(pair) for k, pair in pairs.items()}
            values = moments(for_values(size), bases)
            return [
                Block(part, bases.get(k), values[k]) for k, part in enumerate(index)
            ]

        _, batch_size = room(data, how.size, held=how.held)
        return halving(build, batch_size)


def _source(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    samples: int,
    loss: Loss,
) -> Callable[[torch.Generator], Callable[[int], Iterator[Batch]]]:
    """Returns what gives, for a generator and a batch size, the gradients of an expectation."""
    if not samples:
        return lambda _: partial(_terms, model, how, data, loss)
    check_cross_entropy(loss, "drawing labels from the prediction")

    def drawn(draws: torch.Generator) -> Callable[[int], Iterator[Batch]]:
        return partial(_batches, model, how, labelled(model, data, samples, draws))

    return drawn


def _terms(
    model: nn.Module,
    how: Plan,
    data: Dataset,
    loss: Loss,
    size: int,
) -> Iterator[Batch]:
    """Yields the terms of the curvature at the outputs, a batch at a time."""
    for rows in batches(data, size):
        for term, gradients in term_gradients(model, how, rows, loss, FACTORS_ONLY):
            weight = term.weight.clamp(min=0) / len(data)
            yield Batch(gradients, weight)


def _batches(
    model: nn.Module,
    how: Plan,
    parts: list[Labelled],
    size: int,
) -> Iterator[Batch]:
    at_labels = seeds_of("loss", CROSS_ENTROPY)
    for part in parts:
        weights = part.weight.split(size)
        for rows, weight in zip(batches(part.data, size), weights, strict=True):
            found = per_example(
                model, how, rows, at_labels, FACTORS_ONLY, rescale=False
            )
            yield Batch([gradient for gradient, _ in found], weight)


def solve(
    parts: list[Block],
    vectors: Tensor,
    shift: float,
    relative: float = 0.0,
) -> Tensor:
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
        mean = float(block.values.mean())
        rows = vectors[:, block.index]
        out[:, block.index] = block.solve(rows, shift + relative * mean)
    return out
