"""Checkpoints from files: those of torch.save, read without running code, and safetensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from poisonbench.errors import ConfigError

# under which a file holds the state of the model beside other things
STATES = ("state_dict", "model_state_dict", "model_state", "model", "net", "weights")
OPTIMISERS = ("optimizer", "optimizer_state_dict", "optimizer_states", "optim")
STEPS = ("step", "global_step")
SAVE = "torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True, eq=False)
class Saved:
    """What a file holds of a run.

    Attributes:
        state: name of a parameter or buffer -> value, on the CPU.
        lr: learning rate that the optimiser in the file has; None without one.
        step: number of steps taken, if the file tells it.
    """

    state: dict[str, Tensor]
    lr: float | None = None
    step: int | None = None


def read_file(path: Path) -> Saved:
    """Returns the state of a model that a file holds, by itself or under a usual name.

    Args:
        path: "*.safetensors", or a file of torch.save. No code of the file is run.

    Raises:
        ConfigError: it cannot be read, or holds no state dict; names the file and the way out.
    """
    if path.suffix == ".safetensors":
        return Saved(_safetensors(path))
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle may raise anything
        if "Unsupported global" in str(error):
            told = f"{path} holds more than tensors and numbers, such as a whole model"
            raise ConfigError([told], SAVE) from error
        raise _unreadable(path, error, "a file of torch.save") from error
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        raise ConfigError([f"{path} holds a {kind}, no state dict"], SAVE)
    for content in (found, *(found.get(name) for name in STATES)):
        if _is_state(content):
            return Saved(dict(content), _rate(found), _step(found))
    held = ", ".join(repr(name) for name in list(found)[:5])
    raise ConfigError([f"{path} holds no state dict, but {held or 'nothing'}"], SAVE)


def _is_state(content: Any) -> TypeGuard[Mapping[str, Tensor]]:
    """Whether it maps names to tensors."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(value, Tensor) for value in content.values())


def _rate(found: Mapping[str, Any]) -> float | None:
    """Returns the learning rate of the first group of the optimiser that a file holds."""
    for name in OPTIMISERS:
        held = found.get(name)
        if isinstance(held, list) and held:
            held = held[0]
        groups = held.get("param_groups") if isinstance(held, Mapping) else None
        if groups:
            return float(groups[0]["lr"])
    return None


def _step(found: Mapping[str, Any]) -> int | None:
    for name in STEPS:
        value = found.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        told = f"{path} needs the package safetensors"
        raise ConfigError([told], "pip install 'poisonbench[models]'") from error
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error, "a file of safetensors") from error
    return state


def _unreadable(path: Path, error: Exception, form: str) -> ConfigError:
    told = " ".join(str(error).split())[:200]
    if not path.is_file():
        told = "there is no such file"
    return ConfigError([f"{path} cannot be read: {told}"], f"name {form}")
