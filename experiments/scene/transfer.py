"""The transfer setting: a model pretrained on rows that the victim never sees, or a given one, from which the victim starts."""

import pickle
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.spec import Scene, TransferSpec
from experiments.scene.archive import unpack_trace
from poisonbench import log
from poisonbench.data import Dataset, stratified
from poisonbench.errors import ConfigError, DataError
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Start, body_of, starting_model, train


def set_apart(data: Dataset, rows: int, seed: int) -> tuple[Dataset, Dataset]:
    """Splits a training set into `rows` stratified ones for pretraining, drawn by the seed, and the rest for the victim.

    Raises:
        DataError: no row would be left for the victim.
    """
    if rows >= len(data):
        raise DataError(
            f"transfer.rows must be below {len(data)}, the rows of the training set, got {rows}",
            "leave some to train",
        )
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[stratified(data, rows, derive(seed, "pretraining"))] = True
    return data.take(chosen), data.take(~chosen)


def make_start(scene: Scene, pretraining: Dataset) -> Start | None:
    """Returns the scene's pretrained model: trained on `pretraining`, where it lies, or read from a file; None without transfer.

    Raises:
        ConfigError: the given model is none, or does not fit the recipe's.
        DivergedError: its training left the finite numbers.
    """
    spec = scene.transfer
    if spec is None:
        return None
    if spec.state is None:
        trace = train(
            pretraining, pretraining_recipe(scene.recipe, spec), derive(scene.seed, "pretraining")
        )
        state = trace.checkpoints[-1].state
    else:
        state = read_state(Path(spec.state))
    start = Start(state if spec.keep_head else body_of(state), spec.trained)
    starting_model(replace(scene.recipe, start=start), pretraining, 0)  # it fits, or raises
    return start


def pretraining_recipe(recipe: Recipe, spec: TransferSpec) -> Recipe:
    """Returns the victim's recipe with the epochs and learning rate of the pretraining, of which the final model is kept."""
    return replace(
        recipe, epochs=spec.epochs or recipe.epochs, lr=spec.lr or recipe.lr, checkpoints=1
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads the state of a model: of the final one in a trace.h5, or a state dict that torch.save wrote.

    Raises:
        ConfigError: the file holds no such thing.
        LogError: it is a damaged log.
    """
    if path.suffix == ".h5":
        nothing = Dataset(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), 1)
        return unpack_trace(log.read(path, "trace"), nothing, Recipe(), 0).checkpoints[-1].state
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(
            [f"transfer.state {str(path)!r} cannot be read: {why}"],
            "name a trace.h5 or a state dict",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ConfigError(
            [f"transfer.state {str(path)!r} holds no state dict"],
            "torch.save(model.state_dict(), FILE)",
        )
    return state
