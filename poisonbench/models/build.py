"""From the name of a model to the model."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from poisonbench.data import Layout
from poisonbench.errors import ConfigError
from poisonbench.models.arguments import NONE, called, check_arguments
from poisonbench.models.form import check_form
from poisonbench.models.normed import cnn7, resnet18
from poisonbench.models.pictures import cnn, linear, mlp, resnet9
from poisonbench.models.text import text_cnn, transformer
from poisonbench.models.wrap import adapt
from poisonbench.registry import lookup
from poisonbench.seeding import Outside, derive, drawing

MODELS: dict[str, Callable[[Layout], nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "cnn": cnn,
    "cnn7": cnn7,
    "resnet9": resnet9,
    "resnet18": resnet18,
    "text-cnn": text_cnn,
    "transformer": transformer,
}


def _made(
    make: Callable[..., object],
    name: str,
    layout: Layout,
    arguments: Mapping[str, Any],
) -> object:
    """Returns what the function of a model returns: ours take the layout, others shape, classes."""
    if name not in MODELS:
        return called(make, name, layout, arguments)
    _check_none(name, arguments)
    return make(layout)


def _check_none(name: str, arguments: Mapping[str, Any]) -> None:
    if arguments:
        raise ConfigError(
            [
                f"built-in model {name!r} takes no model_args, got {', '.join(arguments)}"
            ],
            "leave model_args out, or name a function of your own",
        )


def arguments_fault(name: str, arguments: Mapping[str, Any]) -> str:
    """Returns why a model does not take the arguments; "" if it does."""
    make = lookup(MODELS, name, "model")
    try:
        if name in MODELS:
            _check_none(name, arguments)
        else:
            check_arguments(make, name, arguments)
    except ConfigError as error:
        return str(error)
    return ""


def build(
    name: str,
    layout: Layout,
    seed: int,
    arguments: Mapping[str, Any] = NONE,
) -> nn.Module:
    """Builds an untrained model in float32 on the CPU, in evaluation mode.

    Equal seeds give equal parameters, whatever generator the model draws from, and whether it
    draws when it is made or, if it is lazy, on its first instances.

    Args:
        name: a key of `MODELS`, or `package.module:callable` of a function
            `(shape, classes) -> nn.Module`, or of any function that takes `arguments`.
        layout: of the data that it is to classify.
        seed: of the initialisation. The global generators are left as they were.
        arguments: keyword arguments of that function, such as `num_classes` of torchvision's.

    Raises:
        ConfigError: no such name, arguments that it does not take, or a model that is not of the
            form of `models.form.check_form`.
        TypeError: what the function returned is no `nn.Module`.
    """
    make = lookup(MODELS, name, "model")
    start = derive(seed, "model")
    with drawing(start), Outside().drawing(start):
        model = _made(make, name, layout, arguments)
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model {name!r} must give an nn.Module, got {type(model).__name__}"
            )
        model.eval()
        if name not in MODELS:
            adapt(model, layout.sample(2))
            check_form(model, name, layout)
    return model
