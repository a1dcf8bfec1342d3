"""The gradient engine: dot products of per-example gradients of n training and m test instances, without ever holding (n, p).

One forward and one backward pass to the layers' outputs for a batch; every layer then adds its share of the (B, m) products.
Cost of a call: forward and backward over the n + m instances, plus at most 2 n m p flops of matrix product.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from poisonbench.data import Dataset
from poisonbench.gradients.backprop import Layers, per_example, plan, projections
from poisonbench.gradients.layers import Grad
from poisonbench.memory import Budget, batches, halving, room
from poisonbench.objectives import Objective
from poisonbench.seeding import exact_arithmetic

Renormalize = Literal["none", "all", "layer"]


@dataclass(frozen=True)
class Form:
    """Which gradients are multiplied.

    Attributes:
        objective: "loss" (cross entropy, without weight decay) or "margin" (the logit against the logsumexp of the others).
        renormalize: "none"; "all": cosines of the whole gradients; "layer": sum over the layers of a layer's cosines. Use it on
            margins: their gradient has the direction of the loss gradient and does not vanish with growing confidence.
        layers: "all", or "last" for the head's parameters alone.
    """

    objective: Objective = "loss"
    renormalize: Renormalize = "none"
    layers: Layers = "all"


RAW = Form()


@dataclass(frozen=True, eq=False)
class _Side:
    """Per-example gradients of all layers, and what each is multiplied by, (m,)."""

    layers: list[Grad]
    coefficients: list[Tensor | None]


def _coefficients(
    norms: list[Tensor], scales: list[Tensor | None], renormalize: Renormalize
) -> list[Tensor | None]:
    """Returns for every layer what its gradients are to be multiplied by, (B,), so that the whole, or each layer, has norm 1."""
    if renormalize == "none":
        return [None] * len(scales)
    if renormalize == "layer":  # a layer without any gradient has no direction and adds nothing
        return [torch.where(norm == 0, torch.zeros_like(norm), 1 / norm) for norm in norms]
    factors = [s for s in scales if s is not None]
    total = torch.linalg.vector_norm(
        torch.stack([n.double() * s for n, s in zip(norms, factors, strict=True)]), dim=0
    )
    return [(s / total).to(n.dtype) for n, s in zip(norms, factors, strict=True)]


def _side(
    batches: Iterable[Iterator[tuple[Grad, Tensor | None]]], renormalize: Renormalize
) -> _Side:
    """Joins the batches of test gradients, a layer at a time."""
    columns = zip(*(list(pairs) for pairs in batches), strict=True)
    layers, scales = [], []
    for column in columns:
        (first, scale), *others = column
        layers.append(first.join([layer for layer, _ in others]) if others else first)
        scales.append(None if scale is None else torch.cat([s for _, s in column if s is not None]))
    norms = [layer.norm() for layer in layers] if renormalize != "none" else []
    return _Side(layers, _coefficients(norms, scales, renormalize))


def _products(
    pairs: Iterator[tuple[Grad, Tensor | None]], test: _Side, renormalize: Renormalize
) -> Tensor:
    """Returns (B, m); the gradients of a layer are dropped as soon as they are multiplied."""
    parts, norms, scales = [], [], []
    for (layer, scale), other in zip(pairs, test.layers, strict=True):
        parts.append(layer.dot(other))
        scales.append(scale)
        if renormalize != "none":
            norms.append(layer.norm())
    rows = _coefficients(norms, scales, renormalize)
    for part, row, column in zip(parts, rows, test.coefficients, strict=True):
        if row is not None and column is not None:
            part.mul_(row[:, None]).mul_(column)
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def dot_products(
    model: nn.Module, train: Dataset, test: Dataset, form: Form = RAW, budget: Budget | None = None
) -> Tensor:
    """Returns <g_j, g_i> for every test instance j and training instance i, (m, n), in the dtype of the data.

    Args:
        model: in evaluation mode, on the device and in the dtype of the data. Parameters with requires_grad=False are left out.
        train: n instances.
        test: m instances; gradients are taken at the labels given.
        form: which gradients.
        budget: None chooses by device. When the device runs out of memory, blocks are halved and the call goes on.

    Raises:
        ValueError: the model is in training mode or has nothing to differentiate.
    """
    if not len(train) or not len(test):
        return test.x.new_zeros(len(test), len(train))
    rescale = form.renormalize != "none"
    with exact_arithmetic():
        how = plan(model, form.layers, test.x[:1])
        block, batch = room(test, how.size, budget)

        def columns(part: Dataset) -> Tensor:
            def passes(data: Dataset, size: int) -> Iterator[Iterator[tuple[Grad, Tensor | None]]]:
                return (
                    per_example(model, how, b, form.objective, len(part), rescale)
                    for b in batches(data, size)
                )

            side = _side(passes(part, batch), form.renormalize)

            def rows(size: int) -> Tensor:
                return torch.cat(
                    [_products(pairs, side, form.renormalize) for pairs in passes(train, size)]
                )

            return halving(rows, batch).T

        return halving(
            lambda size: torch.cat([columns(part) for part in batches(test, size)]),
            min(block, len(test)),
        )


def layer_norms(
    model: nn.Module, data: Dataset, form: Form = RAW, budget: Budget | None = None
) -> Tensor:
    """Returns the norm of every layer's share of every instance's gradient, (layers, n) in float64; arguments as above."""
    with exact_arithmetic():
        how = plan(model, form.layers, data.x[:1])

        def norms(part: Dataset) -> Tensor:
            pairs = per_example(model, how, part, form.objective, 1, rescale=True)
            return torch.stack([g.norm().double() * s for g, s in pairs if s is not None])

        _, batch = room(data, how.size, budget)
        return halving(
            lambda size: torch.cat([norms(part) for part in batches(data, size)], 1), batch
        )


def gradient_norms(
    model: nn.Module, data: Dataset, form: Form = RAW, budget: Budget | None = None
) -> Tensor:
    """Returns |g_i| for every instance, (n,); arguments and errors as for `dot_products`, `form.renormalize` has no meaning."""
    norms: Tensor = torch.linalg.vector_norm(layer_norms(model, data, form, budget), dim=0)
    return norms.to(data.x.dtype)


def project(
    model: nn.Module,
    data: Dataset,
    vectors: dict[str, Tensor],
    form: Form = RAW,
    budget: Budget | None = None,
) -> Tensor:
    """Returns <v_j, g_i> for m vectors v_j in parameter space and every instance i, (m, n).

    Args:
        model: in evaluation mode.
        data: n instances.
        vectors: parameter name -> (m, *shape), such as `gradient_vectors` returns; m should be what fits into memory.
        form: objective and layers of the gradients g_i; `form.renormalize` has no meaning.
        budget: None chooses by device.
    """
    with exact_arithmetic():
        how = plan(model, form.layers, data.x[:1])
        _, batch = room(data, how.size, budget)

        def rows(size: int) -> Tensor:
            return torch.cat(
                [
                    projections(model, how, part, vectors, form.objective)
                    for part in batches(data, size)
                ]
            )

        return halving(rows, batch).T
