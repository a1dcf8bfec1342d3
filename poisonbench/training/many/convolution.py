"""Convolutions of K models at once, as products with patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.convolution import padding
from poisonbench.training.many.layers import Memory, Product


class Convolution:
    """`nn.Conv2d`, followed by ReLU or not: a (K, B, c, h, w), W (K, o, c, kh, kw), b (K, o).

    Channels lie last in memory, before and after.
    """

    def __init__(
        self,
        module: nn.Conv2d,
        weight: Tensor,
        bias: Tensor | None,
        rectified: bool,
        first: bool,
    ) -> None:
        self.module = module
        self.weight = weight
        self.first = first
        self.kernel = module.kernel_size
        self.stride = module.stride
        flat = _flat(weight.detach()).contiguous()
        self.product = Product(flat, bias, rectified, first)
        self.memory = Memory(weight.detach())
        weight.grad = torch.empty_like(weight)

    def forward(self, a: Tensor) -> Tensor:
        """See `Link`."""
        pixels = a.flatten(0, 1)
        pixels = pixels.permute(0, 2, 3, 1)
        padded = F.pad(pixels, (0, 0, *padding(self.module)))
        rows = padded.unfold(1, self.kernel[0], self.stride[0])
        windows = rows.unfold(2, self.kernel[1], self.stride[1])
        windows = windows.permute(0, 1, 2, 4, 5, 3)  # (K B, h', w', kh, kw, c)
        self.padded = padded.shape
        self.places = windows.shape[1:3]
        patches = self.memory.get("patches", *windows.shape)
        patches.copy_(windows)
        self.product.weight.copy_(_flat(self.weight))
        entries = self.product.weight.shape[2]
        patches = patches.view(len(a), -1, entries)
        outputs = self.product.forward(patches)
        maps = outputs.view(*a.shape[:2], *self.places, -1)
        return maps.permute(0, 1, 4, 2, 3)

    def backward(self, d: Tensor) -> Tensor:
        """See `Link`."""
        pixels = d.permute(0, 1, 3, 4, 2)
        pixels = pixels.reshape(self.product.outputs.shape)
        below = self.product.backward(pixels)
        assert self.weight.grad is not None
        assert self.product.weight.grad is not None
        flat = self.product.weight.grad
        patched = flat.unflatten(2, (*self.kernel, -1))
        self.weight.grad.copy_(patched.permute(0, 1, 4, 2, 3))
        if self.first:
            return d
        inner = self._within(self._gathered(below))
        return inner.view(*d.shape[:2], *inner.shape[1:])

    def _within(self, pixels: Tensor) -> Tensor:
        """Returns the maps without their padding, channels first."""
        left, right, top, bottom = padding(self.module)
        height = self.padded[1] - bottom
        width = self.padded[2] - right
        inner = pixels[:, top:height, left:width]
        return inner.permute(0, 3, 1, 2)

    def _gathered(self, patches: Tensor) -> Tensor:
        """Returns the sum over the patches at each pixel of the padded maps, channels last."""
        height, width = self.places
        parts = patches.view(-1, height, width, *self.kernel, self.padded[3])
        pixels = self.memory.get("below", *self.padded)
        pixels.zero_()
        for i in range(self.kernel[0]):
            down = _every(i, self.stride[0], height)
            for j in range(self.kernel[1]):
                along = _every(j, self.stride[1], width)
                pixels[:, down, along] += parts[:, :, :, i, j]
        return pixels


def _every(
    start: int,
    stride: int,
    count: int,
) -> slice:
    """Returns the places start, start + stride, ..., `count` of them."""
    last = start + stride * (count - 1)
    return slice(start, last + 1, stride)


def _flat(weight: Tensor) -> Tensor:
    """Returns weights (K, o, c, kh, kw) as (K, o, kh kw c)."""
    return weight.permute(0, 1, 3, 4, 2).flatten(2)
