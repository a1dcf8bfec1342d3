"""What training refuses: batches too small, numbers not finite, checkpoints that lack state."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from poisonbench.checks import check_type, check_whole
from poisonbench.data import KINDS, Dataset
from poisonbench.errors import ConfigError, DivergedError, ReplayError
from poisonbench.functional import whole_state
from poisonbench.models import MODELS, predict
from poisonbench.models.form import batch_layers, close
from poisonbench.seeding import drawing
from poisonbench.training.recipe import Recipe, starting_model, training_mode
from poisonbench.training.trace import Trace


def check_arguments(
    data: Dataset,
    recipe: Recipe,
    seed: int,
) -> None:
    """Refuses what no model can be trained with.

    Raises:
        TypeError: `data` is no Dataset, `recipe` no Recipe, or `seed` no whole number.
        ValueError: there is no training instance.
        ConfigError: the recipe augments instances that are no images, or mixes the precision of
            what is not computed in float32.
    """
    check_type("data", data, Dataset, "a poisonbench.data.Dataset")
    check_type("recipe", recipe, Recipe, "a poisonbench.training.Recipe")
    check_whole("seed", seed)
    if not len(data):
        raise ValueError("training needs at least 1 instance, got a data set of 0 rows")
    assert data.kind is not None
    if recipe.augment != "none" and not KINDS[data.kind].flips:
        raise ConfigError(
            [f"augment = {recipe.augment!r} mirrors images, got kind {data.kind!r}"],
            "leave augment out",
        )
    if recipe.mixed_precision and data.dtype != torch.float32:
        raise ConfigError(
            [f"mixed_precision works on float32, got {data.dtype}"],
            "leave mixed_precision out, or convert the data",
        )


def check_finite(
    model: nn.Module,
    watched: frozenset[str],
    losses: Tensor,
    epoch: int,
) -> None:
    """Raises DivergedError where a loss, or what was finite at the start, is no longer so."""
    finite = losses.isfinite().all()
    for name, value in whole_state(model).items():
        if name in watched:
            finite = finite & value.isfinite().all()
    if not bool(finite):
        raise DivergedError(epoch)


def check_rebuilt(trace: Trace, model: nn.Module) -> None:
    """Refuses a model of someone else's whose last checkpoint is not the model that was trained."""
    if trace.by_recipe.model in MODELS:
        return
    x = trace.train.x[:2]
    trained = predict(model, x)
    rebuilt = predict(trace.model(), x)
    if not close(trained, rebuilt):
        found = f"model {trace.by_recipe.model!r}, rebuilt from its checkpoint, gives other outputs"
        raise ConfigError(
            [found],
            "what training changes must be a parameter, or a buffer that state_dict holds",
        )


def check_batch_sizes(
    data: Dataset,
    recipe: Recipe,
    sizes: Tensor,
) -> None:
    """Refuses batches of one row where the model takes statistics of a batch.

    Args:
        data: the instances.
        recipe: names the model.
        sizes: number of rows of every batch, (T,) or (T, K).

    Raises:
        ConfigError: one has a single row, and the model fails on it.
    """
    if not bool((sizes == 1).any()):
        return
    model = starting_model(recipe, data, 0)
    layers = batch_layers(model)
    if not layers:
        return
    try:
        with drawing(0, data.x.device), torch.no_grad():
            training_mode(model, recipe)
            model(data.x[:1])
    except ValueError:
        names = ", ".join(layers)
        raise ConfigError(
            [
                f"BatchNorm needs at least two rows in a batch, and a batch has one: {names}"
            ],
            f"choose a batch_size other than {recipe.batch_size}, so that none is left with one "
            "row, or GroupNorm; in leave-one-out the last batch needs three",
        ) from None


def tell_diverged(diverged: Tensor) -> None:
    """Warns of models, (K,) bool, that diverged."""
    count = int(diverged.sum())
    if count:
        first = int(diverged.nonzero()[0])
        warnings.warn(
            f"{count} of {len(diverged)} models diverged, the first is {first}: they predict NaN",
            stacklevel=3,
        )


def check_final(trace: Trace, state: Mapping[str, Tensor]) -> None:
    """Compares the state in which a run was repeated with its last checkpoint, bit for bit.

    Args:
        trace: the run.
        state: name of a parameter or buffer -> value after the last step.

    Raises:
        ReplayError: a value differs, and by how much.
    """
    final = trace.checkpoints[-1].state
    for name, value in state.items():
        want = final[name].to(value.device)
        unknown = value.isnan() & want.isnan()
        same = (value == want) | unknown
        if not bool(same.all()):
            difference = value.to(torch.float64) - want.to(torch.float64)
            off = float(difference.abs().max())
            raise ReplayError(name, f"is off by {off:.1e}")
