"""Per-example weight gradients of convolutions from the patches under every output pixel, gathered a few images at a time.

Cost: 2 B o c kh kw L flops, and the patches of a few images in memory: what stays in the cache is multiplied where it lies.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# bytes of patches at a time: measured from 0.5 to 64 MiB on a CPU, all layers are near their best here
GATHERED = {"cpu": 8 << 20, "cuda": 1 << 30}


def padding(module: nn.Conv2d) -> tuple[int, int, int, int]:
    """Returns the zeros left, right, above and below the input."""
    if isinstance(module.padding, str):
        w, h = (
            module.dilation[i] * (module.kernel_size[i] - 1) * (module.padding == "same")
            for i in (1, 0)
        )
        return w // 2, w - w // 2, h // 2, h - h // 2
    return module.padding[1], module.padding[1], module.padding[0], module.padding[0]


def patches(module: nn.Conv2d, a: Tensor, pixelwise: bool = False) -> Tensor:
    """Returns the patch of the input a (B, c, h, w) under every output pixel, (B, L, p) or, not pixelwise, (B, p, L).

    The p = c kh kw entries of a patch are in the order (kh, kw, c) if pixelwise, which is gathered fast from channels-last
    images, else (c, kh, kw).
    """
    a = F.pad(a, padding(module)) if any(padding(module)) else a
    (kh, kw), (down, right), (sh, sw) = module.kernel_size, module.dilation, module.stride
    windows = a.unfold(2, down * (kh - 1) + 1, sh).unfold(3, right * (kw - 1) + 1, sw)[
        ..., ::down, ::right
    ]
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
    flat, size = d.flatten(2), module.weight[0].numel()
    step = max(1, GATHERED.get(a.device.type, 8 << 20) // (size * flat.shape[2] * a.element_size()))
    out = a.new_empty(len(a), d.shape[1], size)
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        gathered = patches(module, a[rows], pixelwise)
        torch.bmm(flat[rows], gathered if pixelwise else gathered.mT, out=out[rows])
    return out.flatten(1)


def in_gradient_order(weights: Tensor, pixelwise: bool) -> Tensor:
    """Returns weights (m, o, c, kh, kw) as (m, p), their entries in the order of `weight_gradient`."""
    return (weights.permute(0, 1, 3, 4, 2) if pixelwise else weights).flatten(1)
