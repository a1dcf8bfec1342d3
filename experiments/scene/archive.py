"""Values to the data sets of a log and back: a training run, a probe (poison: `poisonbench.poison_file`). No computation here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record
from poisonbench.training import Recipe, Start, body_of, digest
from poisonbench.training.trace import Checkpoint, Trace


def pack_start(start: Start) -> dict[str, Tensor | str]:
    """Returns the data sets of a pretrained model, with its sha256."""
    return {
        "start/trained": start.trained,
        "start/sha256": start.digest,
        **{f"start/state/{name}": value for name, value in start.state.items()},
    }


def _state(record: Record, head: str) -> dict[str, Tensor]:
    prefix = f"{head}/state/"
    return {
        key[len(prefix) :]: torch.as_tensor(value)
        for key, value in record.data.items()
        if key.startswith(prefix)
    }


def _check_digest(record: Record, head: str, state: Mapping[str, Tensor]) -> None:
    if digest(state) != record.text(f"{head}/sha256"):
        raise LogError(
            record.path,
            f"{head} does not have the sha256 written with it",
            log.advice(record.path),
        )


def unpack_start(record: Record) -> Start | None:
    """Returns the pretrained model of a log; None where training started from the seed.

    Raises:
        LogError: it does not have the digest that was written with it.
    """
    if "start/trained" not in record.data:
        return None
    state, trained = _state(record, "start"), record.text("start/trained")
    _check_digest(record, "start", state)
    try:
        return Start(state, trained)  # type: ignore[arg-type]
    except ValueError as error:
        raise LogError(record.path, str(error)) from error


def _frozen(recipe: Recipe) -> Mapping[str, Tensor]:
    """The part of the state that no checkpoint needs to hold again."""
    return body_of(recipe.start.state) if recipe.start and recipe.start.trained == "head" else {}


def pack_trace(trace: Trace) -> dict[str, Tensor | str]:
    """Returns the data sets of a training run; every checkpoint carries its sha256, and frozen features are held once."""
    data: dict[str, Tensor | str] = {
        "batches": trace.batches.to(torch.int32),
        "lr": trace.lr,
        "losses": trace.losses,
    }
    if trace.recipe.start is not None:
        data |= pack_start(trace.recipe.start)
    frozen = _frozen(trace.recipe)
    for k, checkpoint in enumerate(trace.checkpoints):
        head = f"checkpoints/{k:04d}"
        data[f"{head}/step"] = torch.tensor(checkpoint.step)
        data[f"{head}/lr"] = torch.tensor(checkpoint.lr, dtype=torch.float64)
        data[f"{head}/sha256"] = digest(checkpoint.state)
        data |= {
            f"{head}/state/{name}": value
            for name, value in checkpoint.state.items()
            if name not in frozen
        }
    return data


def unpack_trace(record: Record, train: Dataset, recipe: Recipe, seed: int) -> Trace:
    """Returns the training run of a log on the device of `train`; the recipe gets the start that the log holds.

    Raises:
        LogError: a checkpoint or the start does not have the digest that was written with it.
    """
    device = train.x.device
    recipe = replace(recipe, start=unpack_start(record))
    frozen = {
        name: v.to(train.x.dtype) if v.is_floating_point() else v
        for name, v in _frozen(recipe).items()
    }
    heads = sorted(
        {"/".join(key.split("/")[:2]) for key in record.data if key.startswith("checkpoints/")}
    )
    checkpoints = []
    for head in heads:
        state = {**frozen, **_state(record, head)}
        _check_digest(record, head, state)
        step, lr = int(record.data[f"{head}/step"]), float(record.data[f"{head}/lr"])
        checkpoints.append(
            Checkpoint(step, lr, {name: value.to(device) for name, value in state.items()})
        )
    parts: dict[str, Any] = {
        name: torch.as_tensor(record.data[name]) for name in ("batches", "lr", "losses")
    }
    return Trace(
        train,
        recipe,
        seed,
        parts["batches"].long(),
        parts["lr"],
        tuple(checkpoints),
        parts["losses"],
    )
