"""Someone else's way to train: a function that takes a model, data and a seed."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from poisonbench.checks import check_choice, check_type
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.losses import CROSS_ENTROPY
from poisonbench.models.wrap import unwrap
from poisonbench.seeding import Outside, derive, drawing
from poisonbench.training.given.fitting import placed
from poisonbench.training.given.form import Given

# (model, data, seed) -> (step, lr, state), ...: it gets an untrained model in training mode, where
# the data lie, and yields its checkpoints in the order of training, the final one last. The global
# generators of PyTorch, NumPy and Python are seeded before it is called, and put back after it
TrainFunction = Callable[[nn.Module, Dataset, int], Iterable[Any]]
Remake = tuple[Callable[[], nn.Module], TrainFunction]
LOOP = "a function (model, data, seed) that yields (step, lr, state), ..."
RESETS = ("reset_parameters", "_reset_parameters")


@dataclass(frozen=True, eq=False)
class Routine:
    """A way to train a given model again.

    Attributes:
        function: the loop.
        form: of the model.
        make: builds an untrained model of this form, from the global generators; None resets the
            layers of the given one.
    """

    function: TrainFunction
    form: Given
    make: Callable[[], nn.Module] | None = None


def routine_of(retrain: TrainFunction | Remake, form: Given) -> Routine:
    """Returns the way to train again that a user gives: a loop, or `(make, loop)`.

    Raises:
        ConfigError: it is neither, or takes other arguments.
    """
    make = None
    loop = retrain
    if isinstance(retrain, tuple):
        count: int = len(retrain)
        if count != 2:
            raise ConfigError(
                [f"retrain has {count} entries, not (make, function)"], LOOP
            )
        make, loop = retrain
    if not callable(loop) or not (make is None or callable(make)):
        raise ConfigError(["retrain must be a function, or (make, function)"], LOOP)
    _check_takes(loop, ("model", "data", "seed"), "retrain", LOOP)
    if make is not None:
        way = "retrain=(make, function), where make() builds an untrained model"
        _check_takes(make, (), "make of retrain", way)
    return Routine(loop, form, make)


def check_loss_of_loop(loss: object, loop: str | None, smoothing: float) -> None:
    """Refuses a recipe's loss that its loop would not descend, or that names none.

    Args:
        loss: of the recipe.
        loop: someone else's; None: ours, which descends cross entropy.
        smoothing: of the labels.
    """
    check_type("loss", loss, str, "a name, or 'package.module:function'")
    if loss == CROSS_ENTROPY:
        return
    if ":" not in str(loss):
        allowed = (CROSS_ENTROPY, "mean-squared-error", "package.module:function")
        check_choice("loss", str(loss), allowed)
    if loop is None:
        what = "loss must be left out without train: our loop descends cross entropy"
        raise ValueError(f"{what}, got {loss!r}")
    if smoothing:
        told = f"got {smoothing} beside loss {loss!r}"
        raise ValueError(f"label_smoothing is of cross entropy alone, {told}")


def _check_takes(
    function: Callable[..., Any], names: tuple[str, ...], what: str, way: str
) -> None:
    """Refuses a function that cannot be called with so many arguments; some do not tell."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        called = f"({', '.join(names)})"
        told = f"{what} is called as {called}, and takes {signature}: {error}"
        raise ConfigError([told], way) from error


def untrained(routine: Routine, seed: int) -> nn.Module:
    """Returns the model from which a run of a routine starts, in evaluation mode.

    It is what `make` builds; without it, a copy of the given model, its layers initialised anew by
    their own `reset_parameters`, but for what is frozen (requires_grad=False).

    Raises:
        ConfigError: a layer with parameters to be trained has no such method, or `make` builds
            another model.
    """
    model = routine.form.fresh()
    start = derive(seed, "model")
    layers = dict(model.named_modules())
    with drawing(start), Outside().drawing(start):
        if routine.make is not None:
            built = unwrap(routine.make())
            model.load_state_dict(placed(model, built.state_dict(), 0))
            return model
        inside_first = reversed(layers)  # as they were built
        for name in inside_first:
            _reset(layers[name], name)
    return model


def _reset(layer: nn.Module, name: str) -> None:
    parameters = list(layer.parameters(recurse=False))
    trained = [p for p in parameters if p.requires_grad]
    if parameters and not trained:
        return
    if not parameters and not list(layer.buffers(recurse=False)):
        return
    for method in RESETS:
        reset = getattr(layer, method, None)
        if callable(reset):
            reset()
            return
    if trained:
        raise ConfigError(
            [f"the model cannot be trained anew: {_told(layer, name)}"],
            "retrain=(make, function), where make() builds an untrained model",
        )


def _told(layer: nn.Module, name: str) -> str:
    kind = type(layer).__name__
    return f"layer {name!r} ({kind}) has parameters and no reset_parameters()"
