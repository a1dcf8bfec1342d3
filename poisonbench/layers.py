"""Per-example gradients of one layer, in whichever of two forms makes their dot products cheap.

A layer whose weight acts as z_l = W a_l at L places (L = 1 for a vector, the pixels for a convolution) has the
per-example gradient G = sum_l d_l a_l^T, with d_l = dF/dz_l. It is kept as `Dense` (G itself, p numbers) or as `Ghost` (the
a_l and d_l, from which <G, G'> = sum_{l,l'} <a_l, a'_l'> <d_l, d'_l'>; Goodfellow 2015, arXiv 1510.01799).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Grad(Protocol):
    """Per-example gradients of one layer for B examples."""

    def dot(self, other: "Grad") -> Tensor:
        """Returns the dot products with the B' gradients of `other`, which must have the same form: (B, B')."""
        ...

    def norm(self) -> Tensor:
        """Returns the Euclidean norms, (B,)."""
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """The gradients themselves: g (B, p)."""

    g: Tensor

    def dot(self, other: Grad) -> Tensor:
        """See `Grad`."""
        assert isinstance(other, Dense)
        return self.g @ other.g.T

    def norm(self) -> Tensor:
        """See `Grad`."""
        norm: Tensor = torch.linalg.vector_norm(self.g, dim=1)
        return norm


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
            one: Tensor = torch.linalg.vector_norm(self.a[:, 0], dim=1) * torch.linalg.vector_norm(self.d[:, 0], dim=1)
            return one
        gram = (self.a @ self.a.mT) * (self.d @ self.d.mT)
        return gram.sum((1, 2)).clamp_(min=0).sqrt_()


def supported(module: nn.Module) -> bool:
    """Tells whether `layer_grad` knows the layer; the parameters of all others go through `vmap(grad)`."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return module.affine and module.track_running_stats
    if isinstance(module, nn.LayerNorm):
        return module.elementwise_affine
    return isinstance(module, nn.Linear) or (isinstance(module, nn.GroupNorm) and module.affine)


def ghost_is_cheaper(module: nn.Module, places: int, against: int) -> bool:
    """Counts multiplications per training instance of dot products with `against` test gradients, ghost against dense."""
    if not isinstance(module, nn.Linear | nn.Conv2d):
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


def _unfold(module: nn.Conv2d, a: Tensor) -> Tensor:
    """Returns (B, c kh kw, L): the patch of the input under every place of the output."""
    if module.kernel_size == (1, 1) and module.stride == (1, 1) and not any(_padding(module)):
        return a.flatten(2)
    left, right, top, bottom = _padding(module)
    if left == right and top == bottom:
        return F.unfold(a, module.kernel_size, module.dilation, (top, left), module.stride)
    return F.unfold(F.pad(a, (left, right, top, bottom)), module.kernel_size, module.dilation, 0, module.stride)


def _padding(module: nn.Conv2d) -> tuple[int, int, int, int]:
    if isinstance(module.padding, str):
        w, h = (module.dilation[i] * (module.kernel_size[i] - 1) * (module.padding == "same") for i in (1, 0))
        return w // 2, w - w // 2, h // 2, h - h // 2
    return module.padding[1], module.padding[1], module.padding[0], module.padding[0]


def _factors(module: nn.Module, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Returns inputs (B, i, L) and output gradients (B, o, L) at the L places."""
    if isinstance(module, nn.Conv2d):
        return _unfold(module, a), d.flatten(2)
    return a.reshape(len(a), -1, a.shape[-1]).mT, d.reshape(len(d), -1, d.shape[-1]).mT


def layer_grad(module: nn.Module, a: Tensor, d: Tensor, ghost: bool, rescale: bool) -> tuple[Grad, Tensor | None]:
    """Returns the per-example gradients of one layer's parameters, weight and bias together.

    Args:
        module: a layer for which `supported` holds.
        a: (B, ...) its inputs.
        d: (B, ...) the gradients at its outputs.
        ghost: keep the factors instead of the gradient.
        rescale: divide every example's gradient by a factor that keeps its norm far from under- and overflow.

    Returns:
        The gradients, and the factors (B,) in float64 by which they were divided (None without `rescale`).
    """
    if not isinstance(module, nn.Linear | nn.Conv2d):
        g = _affine(module, a, d)
        if not rescale:
            return Dense(g), None
        size = amax(g)
        return Dense(g / size[:, None]), size.double()
    scale_a = scale_d = None
    if rescale:
        scale_a, scale_d = amax(a), amax(d)
        if module.bias is not None:
            scale_a = scale_a.clamp(min=1.0)  # the bias sees a constant input of 1
        a, d = a / scale_a.view(-1, *[1] * (a.dim() - 1)), d / scale_d.view(-1, *[1] * (d.dim() - 1))
    inputs, outputs = _factors(module, a, d)
    one = None
    if module.bias is not None:
        one = torch.ones_like(inputs[:, :1, :1]) if scale_a is None else (1 / scale_a).view(-1, 1, 1)
    scale = None if scale_a is None or scale_d is None else scale_a.double() * scale_d.double()
    if ghost:
        if one is not None:
            inputs = torch.cat([inputs, one.expand(-1, 1, inputs.shape[2])], 1)
        return Ghost(inputs.mT, outputs.mT), scale
    weight = torch.bmm(outputs, inputs.mT).flatten(1)
    return Dense(weight if one is None else torch.cat([weight, outputs.sum(2) * one[:, 0]], 1)), scale


def amax(t: Tensor) -> Tensor:
    """Returns the largest magnitude of every example, (B,); 1 where it is 0."""
    largest = t.flatten(1).abs().amax(1)
    return torch.where(largest == 0, torch.ones_like(largest), largest)
