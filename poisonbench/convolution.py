"""Per-example weight gradients of convolutions: the patches under every output pixel, or the whole image shifted.

Cost of either: 2 B o c kh kw L flops; what differs is the memory that is moved, and that decides on a CPU.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# from these output pixels and input channels on, shifting whole images is faster than gathering patches (measured)
LARGE, WIDE = 512, 16


def padding(module: nn.Conv2d) -> tuple[int, int, int, int]:
    """Returns the zeros left, right, above and below the input."""
    if isinstance(module.padding, str):
        w, h = (module.dilation[i] * (module.kernel_size[i] - 1) * (module.padding == "same") for i in (1, 0))
        return w // 2, w - w // 2, h // 2, h - h // 2
    return module.padding[1], module.padding[1], module.padding[0], module.padding[0]


def patches(module: nn.Conv2d, a: Tensor) -> Tensor:
    """Returns the patch of the input a (B, c, h, w) under every output pixel, (B, c kh kw, L)."""
    a = F.pad(a, padding(module)) if any(padding(module)) else a
    if module.dilation != (1, 1):
        return F.unfold(a, module.kernel_size, module.dilation, 0, module.stride)
    windows = a.unfold(2, module.kernel_size[0], module.stride[0]).unfold(3, module.kernel_size[1], module.stride[1])
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(len(a), -1, windows.shape[2] * windows.shape[3])


def weight_gradient(module: nn.Conv2d, a: Tensor, d: Tensor) -> Tensor:
    """Returns the per-example gradients of the weight, (B, p), in an order of the p entries that depends on the shapes alone.

    Args:
        module: the convolution, groups = 1.
        a: (B, c, h, w) inputs.
        d: (B, o, h', w') gradients at the outputs.
    """
    if _shifts(module, d):
        return _by_shifts(module, a, d)
    return torch.bmm(d.flatten(2), patches(module, a).mT).flatten(1)


def in_gradient_order(module: nn.Conv2d, weights: Tensor, d: Tensor) -> Tensor:
    """Returns weights (m, o, c, kh, kw) as (m, p), their entries in the order of `weight_gradient` for output gradients d."""
    return (weights.permute(0, 3, 1, 4, 2) if _shifts(module, d) else weights).flatten(1)


def _shifts(module: nn.Conv2d, d: Tensor) -> bool:
    plain = module.stride == module.dilation == (1, 1) and module.kernel_size != (1, 1)
    return plain and d[0, 0].numel() >= LARGE and module.in_channels >= WIDE


def _by_shifts(module: nn.Conv2d, a: Tensor, d: Tensor) -> Tensor:
    """Rows of padded images laid end to end: the image under kernel entry (i, j) is a shift by i rows and j pixels.

    The gradient at the outputs is padded with zeros to the same row length, so that what wraps around is multiplied by 0. Shifts
    by rows are views; shifts by pixels are copied once.
    """
    (kh, kw), (left, right, top, bottom) = module.kernel_size, padding(module)
    flat = F.pad(a, (left, right, top, bottom + 1)).flatten(2)  # one more row for the last shift to end in
    width = a.shape[3] + left + right
    shifted = torch.cat([flat[:, :, j : flat.shape[2] - kw + 1 + j] for j in range(kw)], 1)  # (B, kw c, .)
    at = F.pad(d, (0, kw - 1)).flatten(2)  # (B, o, h' width)
    out = a.new_empty(len(a), kh, d.shape[1], shifted.shape[1])
    for i in range(kh):
        torch.bmm(at, shifted[:, :, i * width : i * width + at.shape[2]].mT, out=out[:, i])
    return out.flatten(1)
