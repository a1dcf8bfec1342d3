"""Finding the head of a model by a pass of a few instances."""

import torch
from torch import Tensor, nn

from poisonbench.errors import ConfigError
from poisonbench.models.head import NOTED, is_split, linear_layers, watched


def note_head(model: nn.Module, x: Tensor, name: str | None = None) -> None:
    """Finds the head of a model by a pass of instances, and keeps its name with the model.

    A model that is `head(features(x))` needs no name; one without a head is none for the methods
    that ask for it, and as good as any for the others.

    Args:
        model: in evaluation mode, returns logits (B, C).
        x: (B, *shape).
        name: of the head, if it was told.

    Raises:
        ConfigError: there is no such layer, or its output is not the logits.
    """
    if name is None and _is_head_of_features(model, x):
        return
    found = _giving_logits(model, x)
    if name is None:
        setattr(model, NOTED, found[-1] if found else "")
        return
    if name not in found:
        seen = ", ".join(found) or "none"
        fault = f"head {name!r} is no nn.Linear of the model whose output is the logits"
        raise ConfigError([fault], f"layers whose output is: {seen}")
    setattr(model, NOTED, name)


def _is_head_of_features(model: nn.Module, x: Tensor) -> bool:
    if not is_split(model):
        return False
    head = model.get_submodule("head")
    features = model.get_submodule("features")
    try:
        with torch.no_grad():
            return torch.equal(model(x), head(features(x)))
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False


def _giving_logits(model: nn.Module, x: Tensor) -> list[str]:
    """Returns the names of the linear layers whose output is the model's, in the model's order."""
    layers = dict(linear_layers(model))
    with torch.no_grad(), watched(dict(layers)) as calls:
        logits = model(x)
    return [name for name in calls if _same(calls[name][1], logits)]


def _same(out: Tensor, logits: Tensor) -> bool:
    """Whether two outputs are equal; a nested tensor is no logits."""
    if out.is_nested or logits.is_nested:
        return False
    return torch.equal(out, logits)
