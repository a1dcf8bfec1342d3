"""The layers with a rule: per-example gradients from the layer's inputs and output gradients.

A rule is a claim about what the layer computes; `check.py` tests it on every model before it is
relied upon.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from poisonbench.convolution import in_gradient_order, patches, weight_gradient
from poisonbench.gradients.embedding import (
    embedding_gradient,
    scaled_rows,
)
from poisonbench.gradients.forms import Dense, Ghost, Scaled, magnitude, scaled
from poisonbench.gradients.normalising import normalising_gradient


def supported(module: nn.Module) -> bool:
    """Tells whether `layer_grad` has a rule for the layer's type and its own parameters."""
    own = {key for key, _ in module.named_parameters(recurse=False)}
    if own not in ({"weight", "bias"}, {"weight"}):
        return False
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    if isinstance(module, _BatchNorm):
        return module.track_running_stats
    return isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm | nn.GroupNorm)


def ghost_is_cheaper(
    module: nn.Module,
    places: int,
    against: int | None,
) -> bool:
    """Compares the multiplications per training instance of dot products in the two forms.

    Args:
        module: a layer for which `supported` holds.
        places: L, the number of places at which its weight acts.
        against: number of test gradients to be multiplied with; None asks for `Dense`.
    """
    if against is None or not isinstance(module, nn.Linear | nn.Conv2d):
        return False
    outputs = module.weight.shape[0]
    inputs = module.weight[0].numel() + 1
    ghost = against * places**2 * (inputs + outputs + 2)
    dense = (against + places) * inputs * outputs
    return ghost < dense


def places(
    module: nn.Module,
    d: Tensor,
) -> int:
    """Returns L, the places at which the layer's weight acts, from its output gradient (B, ...)."""
    if isinstance(module, nn.Conv2d):
        return d[0, 0].numel()
    return d[0].numel() // d.shape[-1]


def layer_grad(
    module: nn.Module,
    a: Tensor,
    d: Tensor,
    ghost: bool,
    rescale: bool,
    pixelwise: bool,
) -> Scaled:
    """Returns the per-example gradients of one layer's parameters, weight and bias together.

    Args:
        module: a layer for which `supported` holds.
        a: (B, ...) its inputs.
        d: (B, ...) the gradients at its outputs.
        ghost: keep the factors instead of the gradient.
        rescale: divide every example's gradient by a factor that keeps its norm far from under-
            and overflow.
        pixelwise: the entries of a convolution's gradient follow the channels-last layout, in
            which a and d should lie.

    Returns:
        The gradients, and the factors (B,) in float64 by which they were divided (None without
        `rescale`).
    """
    if isinstance(module, nn.Embedding):
        rows = embedding_gradient(module, a, d)
        return scaled_rows(module, rows, rescale)
    if not isinstance(module, nn.Linear | nn.Conv2d):
        gradients = normalising_gradient(module, a, d)
        return scaled(gradients, rescale)
    one = a.new_ones(len(a), 1)
    factors = _Factors(a, d, one, None)
    if rescale:
        factors = factors.rescaled(has_bias=_has_bias(module))
    if ghost:
        return _ghost(module, factors), factors.scale
    return _dense(module, factors, pixelwise), factors.scale


@dataclass(frozen=True, eq=False)
class _Factors:
    """What the gradient of a linear layer or a convolution is made of.

    Attributes:
        a: (B, ...) the layer's inputs.
        d: (B, ...) the gradients at its outputs.
        one: (B, 1) what the bias is multiplied by.
        scale: (B,) in float64, by which the products of a and d were divided; None for 1.
    """

    a: Tensor
    d: Tensor
    one: Tensor
    scale: Tensor | None

    def rescaled(self, has_bias: bool) -> "_Factors":
        """Returns factors whose entries are below 2."""
        scale_a = magnitude(self.a)
        scale_d = magnitude(self.d)
        if has_bias:
            scale_a = scale_a.clamp(min=1.0)
        return _Factors(
            a=self.a / _spread(scale_a, self.a),
            d=self.d / _spread(scale_d, self.d),
            one=self.one / scale_a[:, None],
            scale=scale_a.double() * scale_d.double(),
        )


def _has_bias(module: nn.Module) -> bool:
    return isinstance(module.bias, Tensor)


def _spread(
    values: Tensor,
    t: Tensor,
) -> Tensor:
    """Returns values (B,) with as many dimensions as t (B, ...)."""
    return values.view(-1, *[1] * (t.dim() - 1))


def _ghost(
    module: nn.Module,
    factors: _Factors,
) -> Ghost:
    inputs, outputs = _at_places(module, factors)
    if _has_bias(module):
        ones = factors.one[:, None].expand(-1, 1, inputs.shape[2])
        inputs = torch.cat([inputs, ones], 1)
    words = isinstance(module, nn.Linear) and inputs.shape[2] > 1
    return Ghost(inputs.mT, outputs.mT, words)


def _dense(
    module: nn.Module,
    factors: _Factors,
    pixelwise: bool,
) -> Dense:
    if isinstance(module, nn.Conv2d):
        weight = weight_gradient(module, factors.a, factors.d, pixelwise)
        sums = factors.d.flatten(2).sum(2)
    else:
        inputs, outputs = _at_places(module, factors)
        weight = torch.bmm(outputs, inputs.mT).flatten(1)
        sums = outputs.sum(2)
    if not _has_bias(module):
        return Dense(weight)
    return Dense(weight, sums * factors.one)


def _at_places(
    module: nn.Module,
    factors: _Factors,
) -> tuple[Tensor, Tensor]:
    """Returns inputs (B, i, L) and output gradients (B, o, L) at the L places."""
    outputs = at_places(module, factors.d).mT
    if isinstance(module, nn.Conv2d):
        return patches(module, factors.a), outputs
    return _sequence(factors.a).mT, outputs


def at_places(module: nn.Module, d: Tensor) -> Tensor:
    """Returns the gradients d (B, ...) at a layer's outputs as (B, L, o)."""
    if isinstance(module, nn.Conv2d):
        return d.flatten(2).mT
    return _sequence(d)


def _sequence(t: Tensor) -> Tensor:
    """Returns t (B, ..., i) as (B, L, i)."""
    return t.reshape(len(t), -1, t.shape[-1])


def layer_vectors(
    module: nn.Module,
    vectors: dict[str, Tensor],
    pixelwise: bool,
) -> Dense:
    """Returns m vectors in the layer's parameter space as if they were gradients (`Dense`).

    Args:
        module: a layer for which `supported` holds.
        vectors: "weight" (m, *weight.shape) and, where the layer has one, "bias" (m, *bias.shape).
        pixelwise: as for `layer_grad`.
    """
    weight = vectors["weight"]
    bias = vectors.get("bias")
    if isinstance(module, nn.Conv2d):
        return Dense(in_gradient_order(weight, pixelwise), bias)
    if isinstance(module, nn.Linear):
        return Dense(weight.flatten(1), bias)
    if bias is None:
        return Dense(weight.flatten(1))
    both = torch.cat([weight.flatten(1), bias.flatten(1)], 1)
    return Dense(both)
