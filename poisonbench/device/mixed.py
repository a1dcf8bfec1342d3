"""Mixed precision: the forward pass of a training step in bfloat16.

PyTorch's autocast computes GroupNorm in float32, and so converts what goes in, and pools and
rectifies what comes out at twice the size: a sixth of a step of `resnet9` on an H200. Its kernels
sum in float32 whatever they are given, so that only the result is rounded.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

GROUP_NORM: Callable[..., object] = F.group_norm


class LowNorm(TorchFunctionMode):
    """GroupNorm of bfloat16 gives bfloat16; all else is left as it is."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Computes what PyTorch asks for, GroupNorm of bfloat16 without autocast."""
        named = dict(kwargs or {})
        if func is not GROUP_NORM:
            return func(*args, **named)
        x = args[0]
        if not isinstance(x, Tensor) or x.dtype != torch.bfloat16:
            return func(*args, **named)
        for name in ("weight", "bias"):
            value = named.get(name)
            if isinstance(value, Tensor):
                named[name] = value.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return func(*args, **named)


@contextlib.contextmanager
def mixed_precision(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Where it is wanted, computes in bfloat16 in its block: what autocast does, and GroupNorm."""
    if not wanted:
        yield
        return
    with torch.autocast(device.type, torch.bfloat16), LowNorm():
        yield
