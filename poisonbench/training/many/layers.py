"""Layers of K models at once, with gradients by hand, in memory that every step uses again.

Activations are (K, B, ...), parameters (K, ...). Cost: for small models a third less than
autograd, which pays for its graph and for fresh memory in every step.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

_ops = torch.ops.aten


class Link(Protocol):
    """A layer: what it returns is valid until its next call."""

    def forward(self, a: Tensor) -> Tensor:
        """Returns the outputs of the inputs a (K, B, ...)."""
        ...

    def backward(self, d: Tensor) -> Tensor:
        """Writes the parameters' gradients into their `grad`; returns the gradient at the inputs.

        Args:
            d: (K, B, ...), the gradient at the outputs.
        """
        ...


class Memory:
    """Tensors by name, made anew only where their shape has changed."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.kept: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        """Returns the tensor of this name and shape; its entries are whatever was left there."""
        found = self.kept.get(name)
        if found is None or found.shape != shape:
            found = self.like.new_empty(shape)
            self.kept[name] = found
        return found


class Product:
    """`nn.Linear`: a W^T + b, a (K, B, i), W (K, o, i), b (K, o) -> (K, B, o).

    Attributes:
        weight: W.
        bias: b, or None.
        rectified: the outputs go through `nn.ReLU`, in place.
        first: nobody asks for the gradient at the inputs, which is not computed.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        rectified: bool,
        first: bool,
    ) -> None:
        self.weight = weight
        self.bias = bias
        self.rectified = rectified
        self.first = first
        self.memory = Memory(weight.detach())
        weight.grad = torch.empty_like(weight)
        if bias is not None:
            bias.grad = torch.empty_like(bias)

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.inputs = a
        self.outputs = self.memory.get("outputs", *a.shape[:2], self.weight.shape[1])
        if self.bias is None:
            torch.bmm(a, self.weight.mT, out=self.outputs)
        else:
            torch.baddbmm(self.bias[:, None], a, self.weight.mT, out=self.outputs)
        if self.rectified:
            self.outputs.relu_()
        return self.outputs

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        if self.rectified:
            passed = self.memory.get("passed", *self.outputs.shape)
            d = _ops.threshold_backward(d, self.outputs, 0, grad_input=passed)
        torch.bmm(d.mT, self.inputs, out=self.weight.grad)
        if self.bias is not None:
            torch.sum(d, 1, out=self.bias.grad)
        if self.first:
            return d
        below = self.memory.get("below", *self.inputs.shape)
        return torch.bmm(d, self.weight, out=below)


class Pool:
    """`nn.MaxPool2d`."""

    def __init__(self, module: nn.MaxPool2d) -> None:
        self.kernel = _pair(module.kernel_size)
        self.stride = _pair(module.stride)
        self.padding = _pair(module.padding)
        self.dilation = _pair(module.dilation)
        self.ceil = module.ceil_mode

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.inputs = a.flatten(0, 1)
        outputs: Tensor
        outputs, self.index = _ops.max_pool2d_with_indices(
            self.inputs,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil,
        )
        return outputs.view(*a.shape[:2], *outputs.shape[1:])

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        below: Tensor = _ops.max_pool2d_with_indices_backward(
            d.flatten(0, 1),
            self.inputs,
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil,
            self.index,
        )
        return below.view(*d.shape[:2], *below.shape[1:])


def _pair(value: int | tuple[int, int]) -> list[int]:
    if isinstance(value, int):
        return [value, value]
    return list(value)


class Rectifier:
    """`nn.ReLU` that follows no product."""

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.outputs = a.relu()
        return self.outputs

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        below: Tensor = _ops.threshold_backward(d, self.outputs, 0)
        return below


class Flatten:
    """`nn.Flatten`."""

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.shape = a.shape
        return a.flatten(2)

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        return d.reshape(self.shape)
