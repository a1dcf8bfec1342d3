"""Someone else's way to train: a function that takes a model, data and a seed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.seeding import Outside, derive, drawing
from poisonbench.training.given.form import Given

# (model, data, seed) -> (step, lr, state), ...: it gets an untrained model in training mode, where
# the data lie, and yields its checkpoints in the order of training, the final one last. The global
# generators of PyTorch, NumPy and Python are seeded before it is called, and put back after it
TrainFunction = Callable[[nn.Module, Dataset, int], Iterable[Any]]
RESETS = ("reset_parameters", "_reset_parameters")


@dataclass(frozen=True, eq=False)
class Routine:
    """A way to train a given model again.

    Attributes:
        function: the loop.
        form: of the model.
    """

    function: TrainFunction
    form: Given


def untrained(form: Given, seed: int) -> nn.Module:
    """Returns a copy of a model, its layers initialised anew by their own `reset_parameters`.

    What is frozen (requires_grad=False) stays as it was given.

    Raises:
        ConfigError: a layer with parameters to be trained has no such method.
    """
    model = form.fresh()
    start = derive(seed, "model")
    layers = dict(model.named_modules())
    with drawing(start), Outside().drawing(start):
        for name in reversed(
            layers
        ):  # a layer after those inside it, as when it was built
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
            "give it the method, which draws its start from PyTorch's generator",
        )


def _told(layer: nn.Module, name: str) -> str:
    kind = type(layer).__name__
    return f"layer {name!r} ({kind}) has parameters and no reset_parameters()"
