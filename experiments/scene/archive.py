"""Training runs, their pretrained models and the truth of a scene as data sets of a log."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from poisonbench import log
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.models import predict
from poisonbench.poison_file import pack_poison
from poisonbench.training import Checkpoint, Recipe, Start, Trace, digest


def pack_start(start: Start) -> dict[str, Tensor | str]:
    """Returns the data sets of a pretrained model, with its sha256."""
    state = {f"start/state/{name}": value for name, value in start.state.items()}
    return {
        names.START_TRAINED: start.trained,
        names.START_SHA256: start.digest,
        **state,
    }


def _state(record: Record, head: str) -> dict[str, Tensor]:
    prefix = f"{head}/{names.STATE}"
    state = {}
    for key, value in record.data.items():
        if key.startswith(prefix):
            state[key.removeprefix(prefix)] = torch.as_tensor(value)
    return state


def _check_digest(record: Record, head: str, state: Mapping[str, Tensor]) -> None:
    if digest(state) != record.text(f"{head}/{names.SHA256}"):
        what = f"{head} does not have the sha256 written with it"
        raise LogError(record.path, what, log.advice(record.path))


def unpack_start(record: Record) -> Start | None:
    """Returns the pretrained model of a log; None where training started from the seed.

    Raises:
        LogError: it does not have the digest that was written with it.
    """
    if names.START_TRAINED not in record.data:
        return None
    state = _state(record, names.START)
    _check_digest(record, names.START, state)
    trained = record.text(names.START_TRAINED)
    try:
        return Start(state, trained)  # type: ignore[arg-type]
    except ValueError as error:
        raise LogError(record.path, str(error)) from error


def _frozen(recipe: Recipe) -> Mapping[str, Tensor]:
    """The state that no checkpoint needs to hold again where it has the same value."""
    start = recipe.start
    if start is None or start.trained != "head":
        return {}
    return start.state


def pack_trace(trace: Trace) -> dict[str, Tensor | str]:
    """Returns the data sets of a training run.

    Every checkpoint carries its sha256, and frozen features are held once. A run of which nobody
    knows the steps has none in the log.
    """
    data: dict[str, Tensor | str] = {}
    if trace.batches is not None and trace.lr is not None:
        data[names.BATCHES] = trace.batches.to(torch.int32)
        data[names.LR] = trace.lr
    if trace.losses is not None:
        data[names.LOSSES] = trace.losses
    frozen: Mapping[str, Tensor] = {}
    if trace.recipe is not None and trace.recipe.start is not None:
        data |= pack_start(trace.recipe.start)
        frozen = _frozen(trace.recipe)
    for k, checkpoint in enumerate(trace.checkpoints):
        head = f"{names.CHECKPOINTS}{k:04d}"
        data[f"{head}/{names.STEP}"] = torch.tensor(checkpoint.step)
        data[f"{head}/{names.LR}"] = torch.tensor(checkpoint.lr, dtype=torch.float64)
        data[f"{head}/{names.SHA256}"] = digest(checkpoint.state)
        for name, value in checkpoint.state.items():
            if not _holds(frozen, name, value):
                data[f"{head}/{names.STATE}{name}"] = value
    return data


def _holds(frozen: Mapping[str, Tensor], name: str, value: Tensor) -> bool:
    """Whether `frozen` has that value, in its type."""
    if name not in frozen:
        return False
    held = frozen[name].to(value)
    return held.shape == value.shape and torch.equal(held, value)


def unpack_trace(record: Record, train: Dataset, recipe: Recipe, seed: int) -> Trace:
    """Returns the training run of a log on the device of `train`.

    Args:
        record: the log.
        train: the n rows that it was trained on.
        recipe: of the run; it gets the start that the log holds.
        seed: of the run.

    Raises:
        LogError: a checkpoint or the start does not have the digest that was written with it.
    """
    recipe = replace(recipe, start=unpack_start(record))
    frozen = {}
    for name, value in _frozen(recipe).items():
        frozen[name] = value.to(train.dtype) if value.is_floating_point() else value
    groups = {
        key.split("/")[1] for key in record.data if key.startswith(names.CHECKPOINTS)
    }
    checkpoints = [
        _unpack_checkpoint(record, names.CHECKPOINTS + group, frozen, train.x.device)
        for group in sorted(groups)
    ]
    batches = _tensor(record, names.BATCHES)
    if batches is not None:
        batches = batches.long()
    return Trace(
        train=train,
        recipe=recipe,
        seed=seed,
        batches=batches,
        lr=_tensor(record, names.LR),
        checkpoints=tuple(checkpoints),
        losses=_tensor(record, names.LOSSES),
    )


def _tensor(record: Record, name: str) -> Tensor | None:
    """Returns a data set of a log as a tensor, None where the log has none of that name."""
    found = record.data.get(name)
    return None if found is None else torch.as_tensor(found)


def _unpack_checkpoint(
    record: Record, head: str, frozen: Mapping[str, Tensor], device: torch.device
) -> Checkpoint:
    state = {**frozen, **_state(record, head)}
    _check_digest(record, head, state)
    return Checkpoint(
        step=int(record.data[f"{head}/{names.STEP}"]),
        lr=float(record.data[f"{head}/{names.LR}"]),
        state={name: value.to(device) for name, value in state.items()},
    )


def pack_truth(
    poisoned: Poisoned, trace: Trace, train: Dataset, test: Dataset
) -> dict[str, Tensor]:
    """Returns the ground truth of poison and of all attacked points, with the victim's labels.

    Args:
        poisoned: what the attack returned.
        trace: the victim's run.
        train: the clean training set.
        test: the clean test set.
    """
    packed = pack_poison(poisoned, train)
    targets = poisoned.targets
    predicted = test.y[:0]
    if len(targets):
        predicted = predict(trace.model(), targets.x.to(trace.train.x.device)).argmax(1)
    return {
        **{f"poison/{name}": value for name, value in packed.items()},
        names.TARGETS_ORIGIN: poisoned.target_origin,
        names.TARGETS_Y: targets.y,
        names.TARGETS_WANTED: poisoned.wanted,
        names.TARGETS_PREDICTED: predicted,
    }
