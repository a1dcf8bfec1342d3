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


def patches(module: nn.Conv2d, a: Tensor, pixelwise: bool = False) -> Tensor:
    """Returns the patch of the input a (B, c, h, w) under every output pixel, (B, L, p) or, not pixelwise, (B, p, L).

    The p = c kh kw entries of a patch are in the order (kh, kw, c) if pixelwise, which is gathered fast from channels-last
    images, else (c, kh, kw).
    """
    a = F.pad(a, padding(module)) if any(padding(module)) else a
    (kh, kw), (down, right), (sh, sw) = module.kernel_size, module.dilation, module.stride
    windows = a.unfold(2, down * (kh - 1) + 1, sh).unfold(3, right * (kw - 1) + 1, sw)[..., ::down, ::right]
    places = windows.shape[2] * windows.shape[3]
    if pixelwise:
        return windows.permute(0, 2, 3, 4, 5, 1).reshape(len(a), places, -1)
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(len(a), -1, places)


def weight_gradient(module: nn.Conv2d, a: Tensor, d: Tensor, pixelwise: bool) -> Tensor:
    """Returns the per-example gradients of the weight, (B, p), their entries in the order of `in_gradient_order`.

    Args:
        module: the convolution, groups = 1.
        a: (B, c, h, w) inputs.
        d: (B, o, h', w') gradients at the outputs.
        pixelwise: the way that is fast for images in channels-last layout; it is right for others too.
    """
    if _shifts(module, d):
        return (_by_views if pixelwise else _by_shifts)(module, a, d)
    if pixelwise:
        return torch.bmm(d.flatten(2), patches(module, a, pixelwise)).flatten(1)
    return torch.bmm(d.flatten(2), patches(module, a).mT).flatten(1)


def in_gradient_order(module: nn.Conv2d, weights: Tensor, d: Tensor, pixelwise: bool) -> Tensor:
    """Returns weights (m, o, c, kh, kw) as (m, p), their entries in the order of `weight_gradient` for such a d."""
    if _shifts(module, d):
        return weights.permute(*((0, 3, 4, 1, 2) if pixelwise else (0, 3, 1, 4, 2))).flatten(1)
    return (weights.permute(0, 1, 3, 4, 2) if pixelwise else weights).flatten(1)


def _shifts(module: nn.Conv2d, d: Tensor) -> bool:
    plain = module.stride == module.dilation == (1, 1) and module.kernel_size != (1, 1)
    return plain and d[0, 0].numel() >= LARGE and module.in_channels >= WIDE


def _laid_end_to_end(module: nn.Conv2d, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor, int]:
    """Returns padded inputs (B, c, .) and output gradients (B, o, h' w'') as rows of one length laid end to end, and that length.

    So the image under kernel entry (i, j) is a shift by i rows and j pixels. The output gradients are padded with zeros to the
    same length, so that what wraps around is multiplied by 0; the inputs have a row more for the last shift to end in.
    """
    left, right, top, bottom = padding(module)
    flat = F.pad(a, (left, right, top, bottom + 1)).flatten(2)
    return flat, F.pad(d, (0, module.kernel_size[1] - 1)).flatten(2), a.shape[3] + left + right


def _by_views(module: nn.Conv2d, a: Tensor, d: Tensor) -> Tensor:
    """A product a kernel entry: in channels-last layout every shift is a view. Order (kh, kw, o, c)."""
    (kh, kw), (flat, at, width) = module.kernel_size, _laid_end_to_end(module, a, d)
    out = a.new_empty(len(a), kh * kw, d.shape[1], a.shape[1])
    for k in range(kh * kw):
        start = k // kw * width + k % kw
        torch.bmm(at, flat[:, :, start : start + at.shape[2]].mT, out=out[:, k])
    return out.flatten(1)


def _by_shifts(module: nn.Conv2d, a: Tensor, d: Tensor) -> Tensor:
    """A product a row of the kernel: shifts by rows are views, shifts by pixels are copied once. Order (kh, o, kw, c)."""
    (kh, kw), (flat, at, width) = module.kernel_size, _laid_end_to_end(module, a, d)
    shifted = torch.cat([flat[:, :, j : flat.shape[2] - kw + 1 + j] for j in range(kw)], 1)  # (B, kw c, .)
    out = a.new_empty(len(a), kh, d.shape[1], shifted.shape[1])
    for i in range(kh):
        torch.bmm(at, shifted[:, :, i * width : i * width + at.shape[2]].mT, out=out[:, i])
    return out.flatten(1)
