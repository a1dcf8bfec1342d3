"""EK-FAC: the Gauss-Newton matrix in an eigenbasis of Kronecker factors (George et al., NeurIPS 2018, arXiv 1806.03884).

Linear layers and convolutions of one group have a block each, E[a a^T] (x) E[d d^T] with inputs a (a constant 1 for the bias) and
output gradients d, summed over the places of a convolution (Grosse & Martens 2016, arXiv 1602.01407); its eigenvalues are
replaced by the second moments of the per-example gradients in its eigenbasis. All other parameters have diagonal blocks.
Used for influence functions by Grosse et al. 2023 (arXiv 2308.03296). Cost: 2 S passes over the data for S labels an instance,
O(n p (inputs + outputs)) flops and one eigendecomposition a factor; then O(p (inputs + outputs)) a vector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import per_example
from poisonbench.gradients.curvature import layout
from poisonbench.gradients.forms import Dense, Ghost, Grad
from poisonbench.gradients.passes import Layers, Plan
from poisonbench.gradients.planning import plan
from poisonbench.memory import batches, halving, room
from poisonbench.models import predict
from poisonbench.seeding import exact_arithmetic, generator

GHOSTS = 0  # gradients to be multiplied with nothing keep their factors
Weighted = tuple[list[Grad], Tensor]


@dataclass(frozen=True, eq=False)
class Block:
    """One layer's block of the curvature.

    Attributes:
        index: (p_layer,) int64, the entries of a vector that it acts on.
        bases: eigenvectors of the factors, (outputs, outputs) and (inputs, inputs), as columns; None for a diagonal block.
        values: (outputs, inputs) or (p_layer,) eigenvalues.
    """

    index: Tensor
    bases: tuple[Tensor, Tensor] | None
    values: Tensor

    def solve(self, rows: Tensor, shift: float) -> Tensor:
        """Returns (block + shift I)^-1 rows for rows (m, p_layer)."""
        if self.bases is None:
            return rows / (self.values + shift)
        left, right = self.bases
        inside = left.T @ rows.view(-1, *self.values.shape) @ right
        return (left @ (inside / (self.values + shift)) @ right.T).flatten(1)


def _labels(
    model: nn.Module, data: Dataset, samples: int, seed: int
) -> Iterator[tuple[Dataset, Tensor]]:
    """Yields the data with labels of the model's, and the weight of every instance, (n,): S draws, or all labels for S = 0."""
    probability = predict(model, data.x).softmax(1)
    if samples == 0:
        for c in range(probability.shape[1]):
            yield data.relabel(torch.full_like(data.y, c)), probability[:, c] / len(data)
        return
    drawn = torch.multinomial(
        probability.cpu(), samples, replacement=True, generator=generator(seed, "ekfac")
    )
    for y in drawn.T:
        yield data.relabel(y), torch.full_like(probability[:, 0], 1 / (samples * len(data)))


def _passes(
    model: nn.Module, how: Plan, sets: list[tuple[Dataset, Tensor]], size: int
) -> Iterator[Weighted]:
    """Yields, a batch at a time, the gradients of all layers and the instances' weights, (B,)."""
    for data, weight in sets:
        for part, w in zip(batches(data, size), weight.split(size), strict=True):
            yield [g for g, _ in per_example(model, how, part, "loss", GHOSTS, rescale=False)], w


def _accumulate(
    passes: Iterator[Weighted], term: Callable[[int, Grad, Tensor], tuple[Tensor, ...]]
) -> list[tuple[Tensor, ...]]:
    """Returns for every layer the sum of term(layer, gradients, weights) over all batches."""
    sums: list[tuple[Tensor, ...]] = []
    for grads, weight in passes:
        terms = [term(k, g, weight) for k, g in enumerate(grads)]
        sums = (
            terms
            if not sums
            else [
                tuple(a + b for a, b in zip(s, t, strict=True))
                for s, t in zip(sums, terms, strict=True)
            ]
        )
    return sums


def _factors(_: int, form: Grad, weight: Tensor) -> tuple[Tensor, ...]:
    """The batch's share of the two Kronecker factors, outputs first; nothing for a diagonal block."""
    if not isinstance(form, Ghost):
        return ()
    a, d = form.a.flatten(0, 1), form.d.flatten(0, 1)
    w = weight.repeat_interleave(form.a.shape[1])[:, None]
    return (w * d).T @ d, (w * a).T @ a


def blocks(
    model: nn.Module, data: Dataset, samples: int = 1, seed: int = 0, layers: Layers = "all"
) -> list[Block]:
    """Returns the blocks of the curvature of the mean cross entropy over the n instances, which together cover all parameters.

    Args:
        model: in evaluation mode.
        data: n instances; their labels are not used.
        samples: labels drawn from the model's prediction for every instance; 0 takes the expectation over all labels.
        seed: of the drawn labels.
        layers: "all" parameters, or "last" for the head's.

    Raises:
        ValueError: the model is in training mode or has nothing to differentiate.
    """
    with exact_arithmetic(), torch.no_grad():
        how = plan(model, layers, data.x)
        index = layout(model, how, data, GHOSTS)
        sets = list(_labels(model, data, samples, seed))

        def build(size: int) -> list[Block]:
            factors = _accumulate(_passes(model, how, sets, size), _factors)
            bases = [tuple(torch.linalg.eigh(f).eigenvectors for f in pair) for pair in factors]

            def moments(k: int, form: Grad, weight: Tensor) -> tuple[Tensor, ...]:
                if isinstance(form, Ghost):
                    g = (form.d @ bases[k][0]).mT @ (form.a @ bases[k][1])  # (B, outputs, inputs)
                    return (torch.einsum("b,boi->oi", weight, g.square_()),)
                assert isinstance(form, Dense)
                g = form.g if form.bias is None else torch.cat([form.g, form.bias], 1)
                return (weight @ g.square(),)

            values = _accumulate(_passes(model, how, sets, size), moments)
            return [
                Block(i, (base[0], base[1]) if base else None, v)
                for i, base, (v,) in zip(index, bases, values, strict=True)
            ]

        return halving(build, room(data, how.size)[1])


def solve(parts: list[Block], vectors: Tensor, shift: float) -> Tensor:
    """Returns (curvature + shift I)^-1 v for m vectors (m, p)."""
    out = torch.empty_like(vectors)
    for block in parts:
        out[:, block.index] = block.solve(vectors[:, block.index], shift)
    return out
