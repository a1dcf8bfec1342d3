"""Layers of K models at once, with gradients by hand: activations (K, B, ...), parameters (K, ...), memory used again every step.

Cost: for small models a third less than autograd, which pays for its graph and for fresh memory in every step.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.convolution import padding

_ops = torch.ops.aten


class Link(Protocol):
    """A layer: what it returns is valid until its next call."""

    def forward(self, a: Tensor) -> Tensor:
        """Returns the outputs of the inputs a (K, B, ...)."""
        ...

    def backward(self, d: Tensor) -> Tensor:
        """Writes the gradients of the parameters into their `grad`; returns the gradient at the inputs."""
        ...


class _Memory:
    """Tensors by name, made anew only where their shape has changed."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.kept: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        found = self.kept.get(name)
        if found is None or found.shape != shape:
            found = self.kept[name] = self.like.new_empty(shape)
        return found


class Product:
    """`nn.Linear`: a W^T + b, rectified or not: a (K, B, i), W (K, o, i), b (K, o) or None -> (K, B, o)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rectified: bool, first: bool) -> None:
        self.weight, self.bias, self.rectified, self.first = weight, bias, rectified, first
        self.memory = _Memory(weight.detach())
        weight.grad = torch.empty_like(weight)
        if bias is not None:
            bias.grad = torch.empty_like(bias)

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.a = a
        self.out = self.memory.get("out", *a.shape[:2], self.weight.shape[1])
        if self.bias is None:
            torch.bmm(a, self.weight.mT, out=self.out)
        else:
            torch.baddbmm(self.bias[:, None], a, self.weight.mT, out=self.out)
        return self.out.relu_() if self.rectified else self.out

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        if self.rectified:
            d = _ops.threshold_backward(
                d, self.out, 0, grad_input=self.memory.get("d", *self.out.shape)
            )
        torch.bmm(d.mT, self.a, out=self.weight.grad)
        if self.bias is not None:
            torch.sum(d, 1, out=self.bias.grad)
        return (
            d
            if self.first
            else torch.bmm(d, self.weight, out=self.memory.get("below", *self.a.shape))
        )


class Convolution:
    """`nn.Conv2d`, followed by ReLU or not, as a product with patches; channels lie last in memory, before and after."""

    def __init__(
        self, module: nn.Conv2d, weight: Tensor, bias: Tensor | None, rectified: bool, first: bool
    ) -> None:
        self.module, self.weight, self.first = module, weight, first
        self.product = Product(self._flat(weight.detach()).contiguous(), bias, rectified, first)
        self.memory = _Memory(weight.detach())
        weight.grad = torch.empty_like(weight)

    @staticmethod
    def _flat(weight: Tensor) -> Tensor:
        """Returns weights (K, o, c, kh, kw) as (K, o, kh kw c)."""
        return weight.permute(0, 1, 3, 4, 2).flatten(2)

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        (kh, kw), (down, right) = self.module.kernel_size, self.module.stride
        left, over, top, under = padding(self.module)
        padded = F.pad(a.flatten(0, 1).permute(0, 2, 3, 1), (0, 0, left, over, top, under))
        windows = (
            padded.unfold(1, kh, down).unfold(2, kw, right).permute(0, 1, 2, 4, 5, 3)
        )  # (K B, h', w', kh, kw, c)
        self.shape, self.places = padded.shape, windows.shape[1:3]
        patches = self.memory.get("patches", *windows.shape).copy_(windows)
        self.product.weight.copy_(self._flat(self.weight))
        out = self.product.forward(patches.view(len(a), -1, self.product.weight.shape[2]))
        return out.view(*a.shape[:2], *self.places, -1).permute(0, 1, 4, 2, 3)

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        (kh, kw), (down, right), (height, width) = (
            self.module.kernel_size,
            self.module.stride,
            self.places,
        )
        below = self.product.backward(d.permute(0, 1, 3, 4, 2).reshape(self.product.out.shape))
        assert self.weight.grad is not None
        assert self.product.weight.grad is not None
        self.weight.grad.copy_(
            self.product.weight.grad.unflatten(2, (kh, kw, -1)).permute(0, 1, 4, 2, 3)
        )
        if self.first:
            return d
        parts = below.view(-1, height, width, kh, kw, self.shape[3])
        out = self.memory.get("below", *self.shape).zero_()
        for i in range(kh):
            for j in range(kw):
                out[
                    :,
                    i : i + down * (height - 1) + 1 : down,
                    j : j + right * (width - 1) + 1 : right,
                ] += parts[:, :, :, i, j]
        left, over, top, under = padding(self.module)
        inner = out[:, top : out.shape[1] - under, left : out.shape[2] - over]
        inner = inner.permute(0, 3, 1, 2)
        return inner.view(*d.shape[:2], *inner.shape[1:])


class Pool:
    """`nn.MaxPool2d`."""

    def __init__(self, module: nn.MaxPool2d) -> None:
        self.how = (
            module.kernel_size,
            module.stride,
            module.padding,
            module.dilation,
            module.ceil_mode,
        )

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.a = a.flatten(0, 1)
        out: Tensor
        out, self.index = _ops.max_pool2d_with_indices(
            self.a, *map(_pair, self.how[:4]), self.how[4]
        )
        return out.view(*a.shape[:2], *out.shape[1:])

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        how = (*map(_pair, self.how[:4]), self.how[4])
        out: Tensor = _ops.max_pool2d_with_indices_backward(
            d.flatten(0, 1), self.a, *how, self.index
        )
        return out.view(*d.shape[:2], *out.shape[1:])


def _pair(value: int | tuple[int, int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class Rectifier:
    """`nn.ReLU` that follows no product."""

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.out = a.relu()
        return self.out

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        out: Tensor = _ops.threshold_backward(d, self.out, 0)
        return out


class Flatten:
    """`nn.Flatten`."""

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        self.shape = a.shape
        return a.flatten(2)

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        return d.reshape(self.shape)
