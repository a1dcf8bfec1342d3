"""Where training starts: from the seed, or in transfer from a model that was trained before.

The features of a pretrained model are frozen or not.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from poisonbench.checks import check_choice
from poisonbench.errors import ConfigError
from poisonbench.models.head import freeze_body, head_name, in_head

Trained = Literal["head", "all"]


@dataclass(frozen=True, eq=False)
class Start:
    """A pretrained model from which every run of a recipe starts.

    Two are equal if they train alike.

    Attributes:
        state: name -> value of the pretrained parameters and buffers. All of the features must be
            there; without those of the head, the head begins as the seed gives it.
        trained: "head" freezes the features, which then compute in training as they do in
            evaluation; "all" fine-tunes.

    Raises:
        ValueError: `trained` is neither.
    """

    state: Mapping[str, Tensor]
    trained: Trained = "head"

    def __post_init__(self) -> None:
        check_choice("trained", self.trained, get_args(Trained))

    @cached_property
    def digest(self) -> str:
        """The sha256 of the state."""
        return digest(self.state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Start):
            return False
        return self.digest == other.digest and self.trained == other.trained

    def __hash__(self) -> int:
        return hash((self.digest, self.trained))

    def enter(self, model: nn.Module) -> None:
        """Gives `model` the pretrained state, and freezes what is not to be trained.

        Raises:
            ConfigError: names or shapes do not fit the model.
        """
        own = model.state_dict()
        head = head_name(model)
        faults = [*self._foreign(own), *self._lacking(own, head)]
        if faults:
            raise ConfigError(
                faults, "pretrain the same model on instances of the same shape"
            )
        model.load_state_dict(dict(self.state), strict=False)
        if self.trained == "head":
            freeze_body(model)

    def _foreign(self, own: Mapping[str, Tensor]) -> list[str]:
        """Says what the state holds that does not fit a model with the state `own`."""
        faults = []
        for name, value in self.state.items():
            held = f"the pretrained state holds {name!r}"
            shape = tuple(value.shape)
            if name not in own:
                faults.append(f"{held}, which the model lacks")
            elif tuple(own[name].shape) != shape:
                wanted = tuple(own[name].shape)
                faults.append(f"{held} of shape {shape}, the model's is {wanted}")
        return faults

    def _lacking(self, own: Mapping[str, Tensor], head: str) -> list[str]:
        """Says what a model with the state `own` has and the pretrained state lacks."""
        fresh_head = not any(in_head(name, head) for name in self.state)
        missing = [name for name in own if name not in self.state]
        return [
            f"the pretrained state lacks {name!r}"
            for name in missing
            if not (fresh_head and in_head(name, head))
        ]

    def begin_step(self, model: nn.Module) -> None:
        """Puts `model` into training mode, except for what is frozen."""
        if self.trained == "head":
            model.eval()
            model.get_submodule(head_name(model)).train()
        else:
            model.train()


def without_head(state: Mapping[str, Tensor], head: str = "head") -> dict[str, Tensor]:
    """Returns a state without the layer `head`: a start with it trains a fresh one."""
    return {name: value for name, value in state.items() if not in_head(name, head)}


def digest(state: Mapping[str, Tensor]) -> str:
    """Returns the sha256 of a state: names and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name, value in sorted(state.items()):
        total.update(name.encode())
        total.update(bytes_of(value))
    return total.hexdigest()


def bytes_of(value: Tensor) -> bytes:
    """Returns the bytes of a tensor, row by row."""
    flat = value.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()
