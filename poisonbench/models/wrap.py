"""Models of other libraries, as the engine calls them: one tensor in, logits out.

A wrapper that runs a model on many devices, or compiled, is taken off. An output with `.logits`
becomes the logits, and sentences are told with their mask, by hooks on a copy: the names of layers
and parameters, and so the keys of states, stay those of the user's model.
"""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from poisonbench.data import PAD
from poisonbench.errors import ModelError
from poisonbench.models.finding import note_head
from poisonbench.models.head import PAIRED

WRAPPERS = ("module.", "_orig_mod.")  # of parallel and of compiled modules, before keys
MASK = "attention_mask"  # argument by which the models of transformers are told what is padding
COPIED = (
    "call it once under torch.no_grad(): weights that are computed (pruning, weight_norm) and "
    "activations that it keeps then carry no graph"
)
APART = "x = x - mean in place of x -= mean; at the start nn.ReLU() in place of inplace=True"
WAY_OUT = "wrap it in an nn.Module that maps x (B, *shape) to logits (B, C)"


def wrap(
    model: nn.Module,
    x: Tensor,
    head: str | None = None,
    one_logit: bool = False,
) -> nn.Module:
    """Returns a copy of a model in evaluation mode that maps x (B, *shape) to logits (B, C).

    Args:
        model: any module; it stays as it is.
        x: a few instances, where the model lies and in its type.
        head: name of the linear layer that gives the logits; None looks for it. A model without
            one serves all methods that need no head.
        one_logit: the model gives one logit f of class 1, trained with binary cross entropy. The
            copy gives (0, f), whose cross entropy is the same loss.

    Raises:
        ModelError: (a ValueError) the model cannot be called so, with the way out.
        ConfigError: `head` is no layer that gives the logits.
    """
    inner = unwrap(model)
    _check_plain(inner)
    try:
        own = copy.deepcopy(inner)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = f"cannot be copied: {_line(error)}"
        raise ModelError.of_layer("", inner, reason, COPIED) from error
    own.eval()
    adapt(own, x)
    _check_shape(own, x, one_logit)
    note_head(own, x, head)
    if one_logit:
        own.register_forward_hook(_pair)
        setattr(own, PAIRED, True)
    return own


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside `nn.DataParallel`, DistributedDataParallel and `torch.compile`."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def plain_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state by the keys of the unwrapped model: without the wrappers' prefixes."""
    plain = dict(state)
    for prefix in WRAPPERS * len(WRAPPERS):
        if plain and all(key.startswith(prefix) for key in plain):
            plain = {key.removeprefix(prefix): value for key, value in plain.items()}
    return plain


def adapt(model: nn.Module, x: Tensor) -> None:
    """Makes a model return its logits alone, and see the mask of sentences, by hooks on it.

    A model that is called with x and returns a tensor is left as it is, but that transformers
    compute padded sentences in evaluation as they do in training.

    Args:
        model: in evaluation mode.
        x: a few instances, where the model lies and in its type.

    Raises:
        ModelError: it pads sentences with another token than 0, cannot be called, or returns
            neither logits nor an object with `.logits`.
    """
    _pad_in_evaluation(model)
    if not x.is_floating_point() and MASK in _arguments(model):
        _check_padding(model)
        model.register_forward_pre_hook(_with_mask, with_kwargs=True)
    if not isinstance(_called(model, x), Tensor):
        model.register_forward_hook(_logits)
    out = _called(model, x)
    if not isinstance(out, Tensor):
        kind = type(out).__name__
        reason = f"returns {kind}, neither logits nor an object with .logits"
        raise ModelError.of_layer("", model, reason, WAY_OUT)


def as_given(model: nn.Module) -> nn.Module:
    """Returns a model without the hooks of `wrap` and `adapt`: as a loop of its author calls it."""
    for hooks in (model._forward_hooks, model._forward_pre_hooks):
        for key, hook in list(hooks.items()):
            if hook in (_with_mask, _logits, _pair):
                del hooks[key]
                model._forward_pre_hooks_with_kwargs.pop(key, None)
    return model


def _pad_in_evaluation(model: nn.Module) -> None:
    """Keeps transformers from nested tensors, into which PyTorch turns padded batches.

    It does so in evaluation mode without gradients alone, and puts zeros where the padding was: a
    model that reads those places would be another function where it predicts than where it is
    differentiated, and layers would see no batch.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False


def _arguments(model: nn.Module) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _check_padding(model: nn.Module) -> None:
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    if pad not in (None, PAD):
        reason = f"pads with token {pad}, and sentences are padded with {PAD}"
        way = f"swap the tokens {pad} and {PAD}: pad_token_id and the rows of the embedding"
        raise ModelError.of_layer("", model, reason, way)


def _with_mask(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Adds the mask (B, L) to a call on token ids alone: 1 for words, 0 for padding."""
    if len(args) != 1 or kwargs:
        return args, kwargs
    mask = (args[0] != PAD).long()
    return args, {MASK: mask}


def _logits(_: nn.Module, __: tuple[Any, ...], out: object) -> object:
    """Returns the logits of an output that holds them under this name."""
    if isinstance(out, Mapping):
        return out.get("logits", out)
    return getattr(out, "logits", out)


def _pair(_: nn.Module, __: tuple[Any, ...], out: Tensor) -> Tensor:
    """Returns (0, f), (B, 2), for one logit f (B, 1) of class 1."""
    return torch.cat([torch.zeros_like(out), out], 1)


def _check_plain(model: nn.Module) -> None:
    """Refuses what has no modules and parameters of its own to look into."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError.of_layer(
            "", model, "is scripted", "give the module that was scripted, and its state"
        )
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            reason = "is sharded over processes"
            way = "gather its state, and give the plain module with it"
            raise ModelError.of_layer(name, module, reason, way)
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            reason = f"has no shape yet: parameter {name!r}"
            raise ModelError.of_layer("", model, reason, "call it once on a batch")


def _called(model: nn.Module, x: Tensor) -> object:
    given = x.clone()
    try:
        with torch.no_grad():
            out: object = model(given)
    except Exception as error:
        reason = f"cannot be called on x {tuple(x.shape)}: {_line(error)}"
        raise ModelError.of_layer("", model, reason, WAY_OUT) from error
    if not torch.equal(given, x):
        reason = "changes the instances that it is called on, in place"
        raise ModelError.of_layer("", model, reason, APART)
    return out


def _check_shape(model: nn.Module, x: Tensor, one_logit: bool) -> None:
    with torch.no_grad():
        found = tuple(model(x).shape)
    width = 1 if one_logit else found[-1]
    if found != (len(x), width):
        wanted = f"({len(x)}, {1 if one_logit else 'C'})"
        reason = f"returns {found} for {len(x)} instances, not {wanted}"
        raise ModelError.of_layer("", model, reason, WAY_OUT)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
