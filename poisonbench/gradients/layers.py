"""Per-example gradients of one layer, in whichever of two forms makes their dot products cheap.

A layer whose weight acts as z_l = W a_l at L places (L = 1 for a vector, the pixels for a convolution) has the
per-example gradient G = sum_l d_l a_l^T, with d_l = dF/dz_l. It is kept as `Dense` (G itself, p numbers) or as `Ghost` (the
a_l and d_l, from which <G, G'> = sum_{l,l'} <a_l, a'_l'> <d_l, d'_l'>; Goodfellow 2015, arXiv 1510.01799).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.convolution import in_gradient_order, patches, weight_gradient


class Grad(Protocol):
    """Per-example gradients of one layer for B examples."""

    def dot(self, other: "Grad") -> Tensor:
        """Returns the dot products with the B' gradients of `other`, which must have the same form: (B, B')."""
        ...

    def norm(self) -> Tensor:
        """Returns the Euclidean norms, (B,)."""
        ...

    def join(self, others: Sequence["Grad"]) -> "Grad":
        """Returns these gradients followed by those of `others`, which must have the same form."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """The gradients themselves: g (B, p), and those of the bias apart, (B, q) or None, to spare a copy."""

    g: Tensor
    bias: Tensor | None = None

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`."""
        assert isinstance(other, Dense)
        products = self.g @ other.g.T
        return (
            products
            if self.bias is None or other.bias is None
            else products.addmm_(self.bias, other.bias.T)
        )

    def norm(self) -> Tensor:
        """See `Grad`."""
        norm: Tensor = torch.linalg.vector_norm(self.g, dim=1)
        return (
            norm
            if self.bias is None
            else torch.hypot(norm, torch.linalg.vector_norm(self.bias, dim=1))
        )

    def join(self, others: Sequence[Grad]) -> "Dense":
        """See `Grad`."""
        parts = [self, *(other for other in others if isinstance(other, Dense))]
        biases = [part.bias for part in parts if part.bias is not None]
        return Dense(torch.cat([part.g for part in parts]), torch.cat(biases) if biases else None)


@dataclass(frozen=True, eq=False)
class Ghost:
    """The factors of the gradients: a (B, L, i) inputs, d (B, L, o) gradients at the outputs."""

    a: Tensor
    d: Tensor

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`. Takes (B L) x (B' L') numbers of memory."""
        assert isinstance(other, Ghost)
        (b, here, _), (c, there, _) = self.a.shape, other.a.shape
        pairs = (self.a.reshape(b * here, -1) @ other.a.reshape(c * there, -1).T).mul_(
            self.d.reshape(b * here, -1) @ other.d.reshape(c * there, -1).T
        )
        return pairs if here == there == 1 else pairs.view(b, here, c, there).sum((1, 3))

    def norm(self) -> Tensor:
        """See `Grad`."""
        if self.a.shape[1] == 1:
            one: Tensor = torch.linalg.vector_norm(self.a[:, 0], dim=1) * torch.linalg.vector_norm(
                self.d[:, 0], dim=1
            )
            return one
        gram = (self.a @ self.a.mT) * (self.d @ self.d.mT)
        return gram.sum((1, 2)).clamp_(min=0).sqrt_()

    def join(self, others: Sequence[Grad]) -> "Ghost":
        """See `Grad`."""
        parts = [self, *(other for other in others if isinstance(other, Ghost))]
        return Ghost(torch.cat([part.a for part in parts]), torch.cat([part.d for part in parts]))


def supported(module: nn.Module) -> bool:
    """Tells whether `layer_grad` knows the layer; the parameters of all others go through `vmap(grad)`."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.affine and module.track_running_stats
    if isinstance(module, nn.LayerNorm):
        return module.elementwise_affine
    return isinstance(module, nn.Linear) or (isinstance(module, nn.GroupNorm) and module.affine)


def ghost_is_cheaper(module: nn.Module, places: int, against: int | None) -> bool:
    """Counts multiplications per training instance of dot products with `against` test gradients; None asks for `Dense`."""
    if against is None or not isinstance(module, nn.Linear | nn.Conv2d):
        return False
    outputs = module.weight.shape[0]
    inputs = module.weight[0].numel() + 1
    ghost = against * places**2 * (inputs + outputs + 2)
    return ghost < (against + places) * inputs * outputs


def places(module: nn.Module, d: Tensor) -> int:
    """Returns L, the number of places at which the layer's weight acts, from its output gradient d (B, ...)."""
    return d[0, 0].numel() if isinstance(module, nn.Conv2d) else d[0].numel() // d.shape[-1]


def _normalised(module: nn.Module, a: Tensor) -> Tensor:
    """Returns what a normalising layer multiplies by its weight, with the shape of a."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, eps=module.eps)
    assert isinstance(module, nn.modules.batchnorm._BatchNorm)
    return F.batch_norm(a, module.running_mean, module.running_var, eps=module.eps)


def _affine(module: nn.Module, a: Tensor, d: Tensor) -> Tensor:
    """Returns the gradients (B, 2c) or (B, c) of a normalising layer's weight and bias."""
    product = d * _normalised(module, a)
    if isinstance(module, nn.LayerNorm):
        kept = len(module.normalized_shape)
        parts = [t.flatten(1, -kept - 1).sum(1) if t.dim() > kept + 1 else t for t in (product, d)]
    else:
        parts = [t.flatten(2).sum(2) if t.dim() > 2 else t for t in (product, d)]
    return torch.cat([t.flatten(1) for t in parts[: 1 if module.bias is None else 2]], 1)


def _factors(module: nn.Module, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Returns inputs (B, i, L) and output gradients (B, o, L) at the L places."""
    if isinstance(module, nn.Conv2d):
        return patches(module, a), d.flatten(2)
    return a.reshape(len(a), -1, a.shape[-1]).mT, d.reshape(len(d), -1, d.shape[-1]).mT


def layer_grad(
    module: nn.Module, a: Tensor, d: Tensor, ghost: bool, rescale: bool, pixelwise: bool
) -> tuple[Grad, Tensor | None]:
    """Returns the per-example gradients of one layer's parameters, weight and bias together.

    Args:
        module: a layer for which `supported` holds.
        a: (B, ...) its inputs.
        d: (B, ...) the gradients at its outputs.
        ghost: keep the factors instead of the gradient.
        rescale: divide every example's gradient by a factor that keeps its norm far from under- and overflow.
        pixelwise: the entries of a convolution's gradient follow the channels-last layout, in which a and d should lie.

    Returns:
        The gradients, and the factors (B,) in float64 by which they were divided (None without `rescale`).
    """
    if not isinstance(module, nn.Linear | nn.Conv2d):
        g = _affine(module, a, d)
        if not rescale:
            return Dense(g), None
        size = amax(g)
        return Dense(g / size[:, None]), size.double()
    scale: Tensor | None = None
    one = torch.ones_like(a.flatten(1)[:, :1])  # what the bias sees, (B, 1)
    if rescale:
        scale_a, scale_d = amax(a), amax(d)
        if module.bias is not None:
            scale_a = scale_a.clamp(min=1.0)
        one, scale = one / scale_a[:, None], scale_a.double() * scale_d.double()
        a, d = (
            a / scale_a.view(-1, *[1] * (a.dim() - 1)),
            d / scale_d.view(-1, *[1] * (d.dim() - 1)),
        )
    if ghost:
        inputs, outputs = _factors(module, a, d)
        if module.bias is not None:
            inputs = torch.cat([inputs, one[:, None].expand(-1, 1, inputs.shape[2])], 1)
        return Ghost(inputs.mT, outputs.mT), scale
    if isinstance(module, nn.Conv2d):
        weight, sums = weight_gradient(module, a, d, pixelwise), d.flatten(2).sum(2)
    else:
        inputs, outputs = _factors(module, a, d)
        weight, sums = torch.bmm(outputs, inputs.mT).flatten(1), outputs.sum(2)
    return Dense(weight, None if module.bias is None else sums * one), scale


def layer_vectors(module: nn.Module, vectors: dict[str, Tensor], pixelwise: bool) -> Dense:
    """Returns m vectors in the layer's parameter space as if they were gradients, to be multiplied with `Dense` ones.

    Args:
        module: a layer for which `supported` holds.
        vectors: "weight" (m, *weight.shape) and, where the layer has one, "bias" (m, *bias.shape).
        pixelwise: as for `layer_grad`.
    """
    weight, bias = vectors["weight"], vectors.get("bias")
    if isinstance(module, nn.Linear | nn.Conv2d):
        flat = (
            in_gradient_order(weight, pixelwise)
            if isinstance(module, nn.Conv2d)
            else weight.flatten(1)
        )
        return Dense(flat, bias)
    return Dense(torch.cat([weight.flatten(1)] + ([] if bias is None else [bias.flatten(1)]), 1))


def amax(t: Tensor) -> Tensor:
    """Returns the largest magnitude of every example, (B,); 1 where it is 0."""
    largest = t.flatten(1).abs().amax(1)
    return torch.where(largest == 0, torch.ones_like(largest), largest)
