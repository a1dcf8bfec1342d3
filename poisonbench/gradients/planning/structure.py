"""What a model is, its numbers aside: two models of equal structure compute by the same rules.

The check of layer rules is paid once for a structure, so the structure holds everything that may
make a rule wrong: classes and their forward functions, settings, hooks, which parameters are
shared, shapes, modes. What cannot be compared by value is compared by identity, so that a changed
model is at worst checked again.
"""

import functools
import types
from collections.abc import Hashable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    torch.dtype,
    torch.device,
    torch.Size,
    torch.memory_format,
)
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
STANDARD = frozenset(nn.Module().__dict__)  # of every module, and looked at apart
DEPTH = 6  # of values within values; deeper ones are compared by identity

_tokens: WeakKeyDictionary[object, object] = WeakKeyDictionary()


def structure(model: nn.Module) -> Hashable:
    """Returns the structure of a model, equal for models that compute by the same rules."""
    seen: dict[int, int] = {}
    modules = []
    for name, module in model.named_modules(remove_duplicate=False):
        modules.append((name, _number(module, seen), _module(module, seen)))
    hooks = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks
    return tuple(modules), value(hooks)


def _number(
    item: object,
    seen: dict[int, int],
) -> int:
    """Returns the same number for the same object, counted in the order of first sight."""
    return seen.setdefault(id(item), len(seen))


def _module(
    module: nn.Module,
    seen: dict[int, int],
) -> Hashable:
    parts: list[object] = [type(module), type(module).forward, module.training]
    for key, parameter in module._parameters.items():
        if parameter is None:
            parts.append((key, None))
        else:
            number = _number(parameter, seen)
            parts.append((key, number, parameter.requires_grad, value(parameter)))
    parts.append(value(module._buffers))
    parts.extend(value(list(module.__dict__[key].values())) for key in HOOKS)
    for key, item in module.__dict__.items():
        if key not in STANDARD:
            parts.append((key, value(item)))
    return tuple(parts)


def value(
    item: object,
    depth: int = DEPTH,
) -> Hashable:
    """Returns something that is equal for equal settings: by value where that is safe."""
    if isinstance(item, PLAIN):
        return type(item), item
    if isinstance(item, Tensor):
        return _tensor(item)
    if depth == 0:
        return _token(item)
    if isinstance(item, tuple | list):
        return type(item), tuple(value(part, depth - 1) for part in item)
    if isinstance(item, dict):
        pairs = [
            (value(key, depth - 1), value(part, depth - 1))
            for key, part in item.items()
        ]
        return type(item), tuple(pairs)
    if isinstance(item, types.FunctionType):
        return _function(item, depth)
    if isinstance(item, functools.partial):
        parts = (item.func, item.args, item.keywords)
        return functools.partial, value(parts, depth - 1)
    return _token(item)


def _tensor(item: Tensor) -> Hashable:
    shape = (item.shape, item.dtype, item.device, item.layout)
    if (
        item.dtype == torch.bool and item.numel() == 1
    ):  # a switch, such as "initialised"
        return Tensor, shape, bool(item)
    return Tensor, shape


def _function(
    item: types.FunctionType,
    depth: int,
) -> Hashable:
    """Functions are equal if they have the same code and the same values bound to it."""
    cells = item.__closure__ or ()
    try:
        bound = [cell.cell_contents for cell in cells]
    except ValueError:  # a name that is not bound yet
        return _token(item)
    return item.__code__, value(
        (item.__defaults__, item.__kwdefaults__, bound), depth - 1
    )


def _token(item: object) -> Hashable:
    """Returns an object that stands for the identity of `item`, without keeping it alive."""
    try:
        return _tokens.setdefault(item, object())
    except TypeError:  # neither hashable nor weakly referable: equal to nothing
        return object()
