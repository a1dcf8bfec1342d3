"""Checkpoints of a run of someone else's, from what a user has: states and learning rates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from poisonbench.errors import ConfigError
from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.given.files import Saved, read_file
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
            `(step, lr, state)`, `(step, state)`, a `Checkpoint`, or a state alone. In the place of
            a state stands also a file of it (`files.read_file`), or a model.
        lr: of those without: a number, one number per checkpoint, or, where each has its step,
            the learning rates of all steps. None: that of the optimiser in the file.

    Raises:
        ConfigError: a state that does not fit the model, or learning rates that do not fit the
            checkpoints.
    """
    if found is None:
        found = [module.state_dict()]
    if isinstance(found, Mapping | str | Path) or not isinstance(found, Iterable):
        raise ConfigError([f"checkpoints must be a list, got {_kind(found)}"], WAY)
    entries = [_entry(entry, k) for k, entry in enumerate(found)]
    if not entries:
        raise ConfigError(["checkpoints is an empty list"], "None: the model alone")
    _check_order(entries)
    _check_apart(entries)
    rates = _rates(entries, lr)
    checkpoints = []
    for k, (entry, rate) in enumerate(zip(entries, rates, strict=True)):
        state = placed(module, entry.saved.state, k)
        checkpoints.append(Checkpoint(entry.step, rate, state))
    return tuple(checkpoints)


@dataclass(frozen=True, eq=False)
class _Entry:
    """What is given as a checkpoint: its step, its learning rate if it is told, and its state."""

    step: int
    lr: float | None
    saved: Saved


def _kind(found: object) -> str:
    return type(found).__name__


def _entry(entry: object, k: int) -> _Entry:
    """Returns what is given as checkpoint k."""
    if isinstance(entry, Checkpoint):
        known = entry.lr == entry.lr
        return _Entry(entry.step, entry.lr if known else None, Saved(entry.state))
    parts = [entry]
    if isinstance(entry, tuple | list):
        parts = list(entry)
    if len(parts) not in (1, 2, 3):
        raise ConfigError([f"checkpoint {k} has {len(parts)} entries"], WAY)
    step = None
    rate = None
    if len(parts) == 3 or (len(parts) == 2 and isinstance(parts[0], int)):
        step = _step(parts.pop(0), k)
        parts.reverse()
    saved = _saved(parts[0], k)
    if len(parts) == 2:
        rate = _rate(parts[1], f"the learning rate of checkpoint {k}")
    return _Entry(step or saved.step or k + 1, rate, saved)


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


def _check_order(entries: Sequence[_Entry]) -> None:
    steps = [entry.step for entry in entries]
    if sorted(set(steps)) != steps:
        raise ConfigError(
            [f"checkpoints are not in the order of training: steps {steps}"],
            "ascending steps, the final model last",
        )


def _check_apart(entries: Sequence[_Entry]) -> None:
    """Refuses states that are the live model's own tensors: all are then what it ended as."""
    seen: dict[tuple[int, ...], int] = {}
    for k, entry in enumerate(entries):
        values = entry.saved.state.values()
        places = tuple(v.data_ptr() for v in values if isinstance(v, Tensor))
        first = seen.setdefault(places, k)
        if places and first != k:
            raise ConfigError(
                [f"checkpoints {first} and {k} are the same tensors"],
                "state_dict() refers to the live model: keep copy.deepcopy(state_dict())",
            )


def _rates(entries: Sequence[_Entry], lr: object) -> list[float]:
    """Returns the rate of each checkpoint: its own, that of `lr`, or that of its file's optimiser.

    NaN where there is none.
    """
    given: list[float | None] = [None] * len(entries)
    if lr is not None:
        given = list(_chosen(entries, lr))
    rates = []
    for entry, rate in zip(entries, given, strict=True):
        known = [r for r in (entry.lr, rate, entry.saved.lr) if r is not None]
        rates.append(known[0] if known else float("nan"))
    return rates


def _chosen(entries: Sequence[_Entry], lr: object) -> list[float]:
    """Returns a rate for each checkpoint, of one number for all, per checkpoint or per step."""
    if isinstance(lr, Real):
        return [_rate(lr, "lr")] * len(entries)
    if isinstance(lr, Tensor):
        lr = lr.flatten().tolist()
    if not isinstance(lr, Sequence) or isinstance(lr, str):
        told = f"lr must be a number or a list of numbers, got {_kind(lr)}"
        raise ConfigError([told], WAY)
    history = [_rate(rate, f"lr[{t}]") for t, rate in enumerate(lr)]
    if len(history) == len(entries):
        return history
    last = entries[-1].step
    if len(history) < last or last == len(entries):
        raise ConfigError(
            [f"lr has {len(history)} numbers for {len(entries)} checkpoints"],
            "one per checkpoint; or those of all steps, with checkpoints=[(step, state), ...]",
        )
    return [history[entry.step - 1] for entry in entries]


def _saved(found: object, k: int) -> Saved:
    """Returns the state that is given for checkpoint k: a state dict, a file of one, a model."""
    if isinstance(found, str | Path):
        return read_file(Path(found))
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
    for name, value in found.items():
        if is_lazy(value):
            raise ConfigError(
                [f"checkpoint {k} holds {name!r}, which has no value yet"],
                "a lazy layer has parameters once it was called: take the state after training",
            )
    return Saved(dict(found))
