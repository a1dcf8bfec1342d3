"""Passes through a model that leave it as it was."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Makes passes through the model harmless while it lasts, and puts its attributes back.

    Rectifiers and the like with inplace=True would overwrite the outputs that are needed; they
    compute the same without. Attention takes no fast path, which runs past the layers' hooks.
    Layers that keep what they compute (pruning, old spectral and weight norm, recurrent layers)
    would keep tensors of the pass.
    """
    modules = list(model.modules())
    attributes = [dict(module.__dict__) for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for module in modules:
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, kept, held in zip(modules, attributes, buffers, strict=True):
            module.__dict__.clear()
            module.__dict__.update(kept)
            module._buffers.clear()
            module._buffers.update(held)
