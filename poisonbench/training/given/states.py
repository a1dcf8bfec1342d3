"""Checkpoints of a run of someone else's, from what a user has: states and learning rates."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path

from torch import Tensor, nn

from poisonbench.errors import ConfigError
from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.given.fitting import placed

WAY = "checkpoints=[(state, lr), ...], each state a state dict of the model"


def checkpoints_of(
    module: nn.Module,
    found: object,
    lr: object = None,
) -> tuple[Checkpoint, ...]:
    """Returns the checkpoints of a run, on the model's device; None: the model's own state.

    Args:
        module: the model.
        found: None, or checkpoints in the order of training, each `(state, lr)`,
            `(step, lr, state)`, `(step, state)`, a `Checkpoint`, or a state alone.
        lr: of those without: a number, one number per checkpoint, or, where each has its step,
            the learning rates of all steps.

    Raises:
        ConfigError: a state that does not fit the model, or learning rates that do not fit the
            checkpoints.
    """
    if found is None:
        found = [module.state_dict()]
    if isinstance(found, Mapping | str | Path) or not isinstance(found, Iterable):
        raise ConfigError([f"checkpoints must be a list, got {_kind(found)}"], WAY)
    taken = [_entry(entry, k) for k, entry in enumerate(found)]
    if not taken:
        raise ConfigError(["checkpoints is an empty list"], "None: the model alone")
    _check_order(taken)
    _check_apart(taken)
    rated = _rated(taken, lr)
    return tuple(placed(module, one, k) for k, one in enumerate(rated))


def _kind(found: object) -> str:
    return type(found).__name__


def _entry(entry: object, k: int) -> Checkpoint:
    """Returns what is given as checkpoint k; its learning rate is NaN where it has none."""
    if isinstance(entry, Checkpoint):
        return entry
    parts = [entry]
    if isinstance(entry, tuple | list):
        parts = list(entry)
    step = k + 1
    rate = float("nan")
    if len(parts) == 3:
        step = _step(parts[0], k)
        rate = _rate(parts[1], f"the learning rate of checkpoint {k}")
        return Checkpoint(step, rate, _state(parts[2], k))
    if len(parts) == 2 and isinstance(parts[0], int):
        return Checkpoint(_step(parts[0], k), rate, _state(parts[1], k))
    if len(parts) == 2:
        rate = _rate(parts[1], f"the learning rate of checkpoint {k}")
    elif len(parts) != 1:
        raise ConfigError([f"checkpoint {k} has {len(parts)} entries"], WAY)
    return Checkpoint(step, rate, _state(parts[0], k))


def _step(found: object, k: int) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ConfigError(
            [
                f"the step of checkpoint {k} must be a whole number from 1, got {found!r}"
            ],
            "(step, lr, state), with the number of steps taken",
        )
    return found


def _rate(found: object, what: str) -> float:
    """Returns a learning rate; `scheduler.get_last_lr()` gives it in a list of one."""
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    usable = isinstance(found, Real) and not isinstance(found, bool)
    if not usable or not 0 <= float(str(found)) < float("inf"):
        told = found if isinstance(found, Real) else _kind(found)
        raise ConfigError([f"{what} must be a number from 0, got {told}"], WAY)
    return float(str(found))


def _check_order(taken: Sequence[Checkpoint]) -> None:
    steps = [one.step for one in taken]
    if sorted(set(steps)) != steps:
        raise ConfigError(
            [f"checkpoints are not in the order of training: steps {steps}"],
            "ascending steps, the final model last",
        )


def _check_apart(taken: Sequence[Checkpoint]) -> None:
    """Refuses states that are the live model's own tensors: all are then what it ended as."""
    seen: dict[int, int] = {}
    for k, one in enumerate(taken):
        for value in one.state.values():
            if not isinstance(value, Tensor) or not value.numel():
                continue
            first = seen.setdefault(value.data_ptr(), k)
            if first != k:
                raise ConfigError(
                    [f"checkpoints {first} and {k} are the same tensors"],
                    "state_dict() refers to the live model: keep copy.deepcopy(state_dict())",
                )
            break


def _rated(taken: list[Checkpoint], lr: object) -> list[Checkpoint]:
    """Returns the checkpoints with the learning rates `lr` where they have none of their own."""
    if lr is None:
        return taken
    rates = _chosen(taken, lr)
    rated = []
    for one, rate in zip(taken, rates, strict=True):
        known = one.lr == one.lr
        rated.append(one if known else Checkpoint(one.step, rate, one.state))
    return rated


def _chosen(taken: list[Checkpoint], lr: object) -> list[float]:
    """Returns a rate for each checkpoint, of one number for all, per checkpoint or per step."""
    if isinstance(lr, Real):
        return [_rate(lr, "lr")] * len(taken)
    if isinstance(lr, Tensor):
        lr = lr.flatten().tolist()
    if not isinstance(lr, Sequence) or isinstance(lr, str):
        told = f"lr must be a number or a list of numbers, got {_kind(lr)}"
        raise ConfigError([told], WAY)
    history = [_rate(rate, f"lr[{t}]") for t, rate in enumerate(lr)]
    if len(history) == len(taken):
        return history
    last = taken[-1].step
    if len(history) < last or last == len(taken):
        raise ConfigError(
            [f"lr has {len(history)} numbers for {len(taken)} checkpoints"],
            "one per checkpoint; or those of all steps, with checkpoints=[(step, state), ...]",
        )
    return [history[one.step - 1] for one in taken]


def _state(found: object, k: int) -> dict[str, Tensor]:
    """Returns a state dict."""
    if isinstance(found, nn.Module):
        found = found.state_dict()
    if not isinstance(found, Mapping):
        told = f"the state of checkpoint {k} is a {_kind(found)}, not a state dict"
        raise ConfigError([told], f"{WAY}: model.state_dict()")
    if "param_groups" in found:
        raise ConfigError(
            [f"the state of checkpoint {k} is that of an optimiser"],
            f"{WAY}: model.state_dict(), not optimizer.state_dict()",
        )
    return dict(found)
