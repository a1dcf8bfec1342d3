"""The rule of normalising layers: what they multiply by their weight, summed over places."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


def normalising_gradient(
    module: nn.Module,
    a: Tensor,
    d: Tensor,
) -> Tensor:
    """Returns the gradients (B, 2c) of weight and bias, or (B, c) without a bias."""
    product = d * _normalised(module, a)
    weight = _summed(module, product)
    if not isinstance(module.bias, Tensor):
        return weight
    bias = _summed(module, d)
    return torch.cat([weight, bias], 1)


def _normalised(
    module: nn.Module,
    a: Tensor,
) -> Tensor:
    """Returns what a normalising layer multiplies by its weight, with the shape of a."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, eps=module.eps)
    assert isinstance(module, _BatchNorm)
    return F.batch_norm(a, module.running_mean, module.running_var, eps=module.eps)


def _summed(
    module: nn.Module,
    t: Tensor,
) -> Tensor:
    """Returns t (B, ...) summed over the places that share an entry of the weight, (B, c)."""
    if isinstance(module, nn.LayerNorm):
        kept = len(module.normalized_shape)
        if t.dim() > kept + 1:
            t = t.flatten(1, -kept - 1).sum(1)
    elif t.dim() > 2:
        t = t.flatten(2).sum(2)
    return t.flatten(1)
