"""Whether a state is one of a given model, and the state as the model takes it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from poisonbench.errors import ConfigError
from poisonbench.models.wrap import plain_keys
from poisonbench.training.checkpoint import Checkpoint


def placed(module: nn.Module, given: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """Returns a copy of the state of checkpoint k, as a model holds it, on the model's device.

    A state of the one part of a model that has any fits the model, too: of the network behind a
    normalisation.

    Raises:
        ConfigError: names or shapes do not fit.
    """
    own = module.state_dict()
    state = _of_whole(plain_keys(given), own)
    faults = _misfits(state, own, k)
    if faults:
        raise ConfigError(faults, "give states of this model: model.state_dict()")
    fitted = {}
    for name, value in own.items():
        found = state[name].detach()
        fitted[name] = found.to(device=value.device, dtype=value.dtype, copy=True)
    return fitted


def _of_whole(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state by the keys of the whole model, if it is that of its one part with any."""
    first = next(iter(own), "")
    for end, letter in enumerate(first):
        prefix = first[: end + 1]
        if letter == "." and {prefix + key for key in state} == set(own):
            return {prefix + key: value for key, value in state.items()}
    return state


def check_numbers(checkpoints: Sequence[Checkpoint], module: nn.Module) -> None:
    """Refuses states of a run that diverged; what is not trained, such as a mask, may be infinite.

    Args:
        checkpoints: of the run.
        module: the model, which tells what is trained.

    Raises:
        ConfigError: a value is NaN, or a trained one infinite.
    """
    trained = set()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            trained.add(name)
    for k, checkpoint in enumerate(checkpoints):
        for name, value in checkpoint.state.items():
            sound = ~value.isnan()
            told = "is not a number"
            if name in trained:
                sound = value.isfinite()
                told = "is not a finite number"
            if not bool(sound.all()):
                raise ConfigError(
                    [f"checkpoint {k} holds {name!r}, which {told}"],
                    "the run diverged before it; give checkpoints from before",
                )


def _misfits(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    k: int,
) -> list[str]:
    """Says what in the state of checkpoint k does not fit a model with the state `own`."""
    faults = []
    missing = [name for name in own if name not in state]
    foreign = [name for name in state if name not in own]
    if missing:
        faults.append(f"checkpoint {k} lacks {_shown(missing)}")
    if foreign:
        faults.append(f"checkpoint {k} holds {_shown(foreign)}, which the model lacks")
    for name, value in own.items():
        held: object = state.get(name, value)
        if isinstance(value, Tensor) and not isinstance(held, Tensor):
            kind = type(held).__name__
            told = f"checkpoint {k} holds {name!r} as {kind}, and not as a tensor"
            return [*faults, told]
    shapes = [name for name in own if _is_misshapen(state.get(name), own[name])]
    if shapes and not faults:
        first = shapes[0]
        found = tuple(getattr(state[first], "shape", ()))
        wanted = tuple(own[first].shape)
        faults.append(
            f"checkpoint {k} holds {first!r} of shape {found}, the model's is {wanted}"
        )
    return faults


def _is_misshapen(found: object, own: Tensor) -> bool:
    """Whether what stands for a value of the model is no tensor of its shape."""
    return not isinstance(found, Tensor) or found.shape != own.shape


def _shown(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    if len(names) <= 3:
        return shown
    return f"{shown} and {len(names) - 3} more"
