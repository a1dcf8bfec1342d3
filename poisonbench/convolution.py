"""Per-example weight gradients of convolutions from the patches under every output pixel.

Patches are gathered a few images at a time. Cost: 2 B o c kh kw L flops, and the patches of a few
images in memory: what stays in the cache is multiplied where it lies.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# bytes of patches at a time: measured from 0.5 to 64 MiB on a CPU, all layers are near their best
GATHERED = {"cpu": 8 << 20, "cuda": 1 << 30}


def padding(module: nn.Conv2d) -> tuple[int, int, int, int]:
    """Returns the zeros left, right, above and below the input."""
    if module.padding == "valid":
        return 0, 0, 0, 0
    if module.padding == "same":
        left, right = _same(module, 1)
        above, below = _same(module, 0)
        return left, right, above, below
    assert not isinstance(module.padding, str)
    vertical, horizontal = module.padding
    return horizontal, horizontal, vertical, vertical


def _same(
    module: nn.Conv2d,
    axis: int,
) -> tuple[int, int]:
    """Returns the zeros before and after the input's axis that keep its length."""
    total = module.dilation[axis] * (module.kernel_size[axis] - 1)
    before = total // 2
    return before, total - before


def patches(
    module: nn.Conv2d,
    a: Tensor,
    pixelwise: bool = False,
) -> Tensor:
    """Returns the patch of the input under every output pixel.

    Args:
        module: the convolution.
        a: (B, c, h, w) its inputs.
        pixelwise: the p = c kh kw entries of a patch are in the order (kh, kw, c), which is
            gathered fast from channels-last images, else (c, kh, kw).

    Returns:
        (B, L, p) if pixelwise, else (B, p, L).
    """
    zeros = padding(module)
    if any(zeros):
        a = F.pad(a, zeros)
    windows = _windows(module, a, axis=0)
    windows = _windows(module, windows, axis=1)  # (B, c, h', w', kh, kw)
    size = len(a)
    places = windows.shape[2] * windows.shape[3]
    if pixelwise:
        return windows.permute(0, 2, 3, 4, 5, 1).reshape(size, places, -1)
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(size, -1, places)


def _windows(
    module: nn.Conv2d,
    a: Tensor,
    axis: int,
) -> Tensor:
    """Returns a view of a (B, c, h, w, ...) with the kernel's window along an axis as the last."""
    spread = module.dilation[axis]
    length = spread * (module.kernel_size[axis] - 1) + 1
    windows = a.unfold(2 + axis, length, module.stride[axis])
    return windows[..., ::spread]


def weight_gradient(
    module: nn.Conv2d,
    a: Tensor,
    d: Tensor,
    pixelwise: bool,
) -> Tensor:
    """Returns the per-example gradients of the weight, (B, p).

    Their entries are in the order of `in_gradient_order`.

    Args:
        module: the convolution, groups = 1.
        a: (B, c, h, w) inputs.
        d: (B, o, h', w') gradients at the outputs.
        pixelwise: the way that is fast for images in channels-last layout; it is right for others
            too.
    """
    flat = d.flatten(2)
    _, outputs, places = flat.shape
    size = module.weight[0].numel()
    limit = GATHERED.get(a.device.type, GATHERED["cpu"])
    bytes_each = size * places * a.element_size()
    step = max(1, limit // bytes_each)
    out = a.new_empty(len(a), outputs, size)
    for start in range(0, len(a), step):
        rows = slice(start, start + step)
        gathered = patches(module, a[rows], pixelwise)
        if not pixelwise:
            gathered = gathered.mT
        torch.bmm(flat[rows], gathered, out=out[rows])
    return out.flatten(1)


def in_gradient_order(
    weights: Tensor,
    pixelwise: bool,
) -> Tensor:
    """Returns weights (m, o, c, kh, kw) as (m, p), as `weight_gradient` orders them."""
    if pixelwise:
        weights = weights.permute(0, 1, 3, 4, 2)
    return weights.flatten(1)
