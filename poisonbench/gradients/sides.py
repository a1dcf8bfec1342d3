"""The two sides of a product of per-example gradients, layer by layer, and their norms."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poisonbench.gradients.forms import Grad, Scaled

Renormalize = Literal["none", "all", "layer"]


@dataclass(frozen=True, eq=False)
class Side:
    """Per-example gradients of all layers, and what each is multiplied by, (m,)."""

    layers: list[Grad]
    coefficients: list[Tensor | None]


def _coefficients(
    norms: list[Tensor],
    scales: list[Tensor | None],
    renormalize: Renormalize,
) -> list[Tensor | None]:
    """Returns what every layer's gradients are to be multiplied by, (B,), to get norm 1.

    Args:
        norms: (B,) of every layer; unused without renormalisation.
        scales: (B,) of every layer, by which its gradients were divided.
        renormalize: "all": the whole has norm 1; "layer": each layer has.
    """
    if renormalize == "none":
        return [None] * len(scales)
    if (
        renormalize == "layer"
    ):  # a layer without any gradient has no direction and adds nothing
        return [
            torch.where(norm == 0, torch.zeros_like(norm), 1 / norm) for norm in norms
        ]
    factors = [scale for scale in scales if scale is not None]
    true_norms = [norm.double() * s for norm, s in zip(norms, factors, strict=True)]
    total = torch.linalg.vector_norm(torch.stack(true_norms), dim=0)
    # an instance without any gradient has no direction either
    total = total.masked_fill(total == 0, torch.inf)
    return [(s / total).to(norm.dtype) for norm, s in zip(norms, factors, strict=True)]


def join_sides(
    passes: Iterable[Iterator[Scaled]],
    renormalize: Renormalize,
) -> Side:
    """Joins the passes over test instances, a layer at a time; its parts are dropped."""
    layers: list[Grad] = []
    scales: list[Tensor | None] = []
    whole = [list(pairs) for pairs in passes]
    for _ in range(len(whole[0])):
        column = [pairs.pop(0) for pairs in whole]
        layers.append(_joined([layer for layer, _ in column]))
        found = [scale for _, scale in column if scale is not None]
        scales.append(torch.cat(found) if found else None)
    norms = []
    if renormalize != "none":
        norms = [layer.norm() for layer in layers]
    return Side(layers, _coefficients(norms, scales, renormalize))


def _joined(parts: list[Grad]) -> Grad:
    """Returns the gradients of all parts of the data; those of one part are not copied."""
    first, *others = parts
    if not others:
        return first
    return first.join(others)


def multiply(
    pairs: Iterator[Scaled],
    test: Side,
    renormalize: Renormalize,
) -> Tensor:
    """Returns (B, m); the gradients of a layer are dropped as soon as they are multiplied."""
    parts = []
    norms = []
    scales = []
    for (layer, scale), other in zip(pairs, test.layers, strict=True):
        parts.append(layer.dot(other))
        scales.append(scale)
        if renormalize != "none":
            norms.append(layer.norm())
    rows = _coefficients(norms, scales, renormalize)
    for part, row, column in zip(parts, rows, test.coefficients, strict=True):
        if row is not None and column is not None:
            part.mul_(row[:, None]).mul_(column)
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
