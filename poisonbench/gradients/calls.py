"""Calling a model with other parameters, and leaving it as it was."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call


def spots(model: nn.Module) -> dict[str, str]:
    """Returns every place that holds a parameter -> the parameter's name in `named_parameters()`.

    A parameter that two modules share (tied weights) has two places, a module under two names has
    one place for each of its parameters.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for prefix, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            found[member(prefix, key)] = names[id(parameter)]
    return found


def member(prefix: str, key: str) -> str:
    """Returns the full name of the member `key` of the module named `prefix`, "" for the model."""
    return f"{prefix}.{key}" if prefix else key


def call(model: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Returns model(x) with the parameters given by name; the others are the model's.

    `functional_call` alone swaps the parameters of a module under two names twice, and then puts
    the wrong ones back.
    """
    values = {}
    for spot, name in spots(model).items():
        if name in parameters:
            values[spot] = parameters[name]
    out: Tensor = functional_call(model, values, (x,), tie_weights=False)
    return out


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
