"""The transfer setting: the victim starts from a pretrained model.

It is trained on rows that the victim never sees, or given.
"""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.spec import Scene, TransferSpec
from experiments.scene.archive import unpack_trace
from poisonbench import log
from poisonbench.data import Dataset, stratified
from poisonbench.errors import DataError
from poisonbench.models.head import head_name
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Start, starting_model, train, without_head
from poisonbench.training.given.files import read_file


def set_apart(data: Dataset, rows: int, seed: int) -> tuple[Dataset, Dataset]:
    """Splits a training set into `rows` stratified ones for pretraining, and the rest.

    Raises:
        DataError: no row would be left for the victim.
    """
    if rows >= len(data):
        what = f"transfer.rows must be below {len(data)}, the rows of the training set, got {rows}"
        raise DataError(what, "leave some to train")
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[stratified(data, rows, derive(seed, "pretraining"))] = True
    return data.take(chosen), data.take(~chosen)


def make_start(scene: Scene, pretraining: Dataset) -> Start | None:
    """Returns the scene's pretrained model; None without transfer.

    It is trained on `pretraining`, where it lies, or read from a file.

    Raises:
        ConfigError: the given model is none, or does not fit the recipe's.
        DivergedError: its training left the finite numbers.
    """
    spec = scene.transfer
    if spec is None:
        return None
    if spec.state is None:
        recipe = pretraining_recipe(scene.recipe, spec)
        trace = train(pretraining, recipe, derive(scene.seed, "pretraining"))
        state = trace.checkpoints[-1].state
    else:
        state = read_state(Path(spec.state))
    if not spec.keep_head:
        fresh = starting_model(replace(scene.recipe, start=None), pretraining, 0)
        state = without_head(state, head_name(fresh))
    start = Start(state, spec.trained)
    starting_model(
        replace(scene.recipe, start=start), pretraining, 0
    )  # it fits, or raises
    return start


def pretraining_recipe(recipe: Recipe, spec: TransferSpec) -> Recipe:
    """Returns the victim's recipe with the epochs and learning rate of the pretraining.

    Of its checkpoints the final model alone is kept.
    """
    epochs = spec.epochs or recipe.epochs
    lr = spec.lr or recipe.lr
    return replace(recipe, epochs=epochs, lr=lr, checkpoints=1)


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads the state of a model: the final one of a trace.h5, or a checkpoint file.

    Raises:
        ConfigError: the file holds no such thing.
        LogError: it is a damaged log.
    """
    if path.suffix == ".h5":
        nothing = Dataset(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), 1)
        return (
            unpack_trace(log.read(path, "trace"), nothing, Recipe(), 0)
            .checkpoints[-1]
            .state
        )
    return read_file(path).state
