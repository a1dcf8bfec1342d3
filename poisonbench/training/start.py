"""Where training starts: from the seed, or in transfer from a model that was trained before, with its features frozen or not."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from poisonbench.errors import ConfigError

Trained = Literal["head", "all"]


@dataclass(frozen=True, eq=False)
class Start:
    """A pretrained model from which every training run of a recipe starts. Two are equal if they train alike.

    Attributes:
        state: name -> value of the pretrained parameters and buffers. All of the features must be there; without those of the
            head, the head begins as the seed gives it.
        trained: "head" freezes the features, which then compute in training as they do in evaluation; "all" fine-tunes.

    Raises:
        ValueError: `trained` is neither.
    """

    state: Mapping[str, Tensor]
    trained: Trained = "head"

    def __post_init__(self) -> None:
        if self.trained not in get_args(Trained):
            raise ValueError(
                f"trained must be one of {', '.join(get_args(Trained))}, got {self.trained!r}"
            )

    @cached_property
    def digest(self) -> str:
        """The sha256 of the state."""
        return digest(self.state)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Start) and (self.digest, self.trained) == (
            other.digest,
            other.trained,
        )

    def __hash__(self) -> int:
        return hash((self.digest, self.trained))

    def enter(self, model: nn.Module) -> None:
        """Gives `model` the pretrained state, and freezes what is not to be trained.

        Raises:
            ConfigError: names or shapes do not fit the model.
        """
        own = model.state_dict()
        faults = [
            f"the pretrained state holds {name!r}, which the model lacks"
            for name in self.state
            if name not in own
        ]
        faults += [
            f"the pretrained state holds {name!r} of shape {tuple(value.shape)}, the model's is {tuple(own[name].shape)}"
            for name, value in self.state.items()
            if name in own and own[name].shape != value.shape
        ]
        faults += [
            f"the pretrained state lacks {name!r}"
            for name in own
            if name not in self.state
            and (not name.startswith("head.") or any(key.startswith("head.") for key in self.state))
        ]
        if faults:
            raise ConfigError(faults, "pretrain the same model on instances of the same shape")
        model.load_state_dict(dict(self.state), strict=False)
        if self.trained == "head":
            model.get_submodule("features").requires_grad_(False)

    def begin_step(self, model: nn.Module) -> None:
        """Puts `model` into training mode, except for what is frozen."""
        model.train()
        if self.trained == "head":
            model.get_submodule("features").eval()


def body_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state without the head: a start with it trains a fresh one."""
    return {name: value for name, value in state.items() if not name.startswith("head.")}


def digest(state: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of a state: names and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(name.encode())
        total.update(
            value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return total.hexdigest()
