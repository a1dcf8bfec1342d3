"""Whether a loss that a user gives is one: of each instance alone, with a gradient."""

import torch
from torch import Tensor

from poisonbench.errors import ConfigError
from poisonbench.losses import Loss, each, name_of

FUNCTION = "a function (outputs, y) of torch, without detach, numpy or argmax: one loss each, (B,)"


def check_apart(loss: Loss, outputs: Tensor, y: Tensor) -> None:
    """Refuses a loss whose value for an instance depends on the instances beside it.

    Raises:
        ConfigError: it does, or does not return one value an instance.
    """
    together = each(loss, outputs, y)
    alone = [each(loss, outputs[i : i + 1], y[i : i + 1]) for i in range(len(y))]
    if not torch.allclose(together, torch.cat(alone), equal_nan=True):
        raise ConfigError(
            [f"loss {name_of(loss)} of an instance depends on those beside it"],
            "a loss of each instance alone",
        )


def check_differentiable(loss: Loss, outputs: Tensor, y: Tensor) -> None:
    """Refuses a loss that cannot be called, or has no gradient at the outputs.

    Raises:
        ConfigError: it raises, does not return a tensor of one value an instance, or one without a
            gradient.
    """
    free = outputs.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            values = each(loss, free, y)
    except ConfigError:
        raise
    except Exception as error:  # a function of others may raise anything
        told = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        shape = tuple(outputs.shape)
        raise ConfigError(
            [f"loss {name_of(loss)} fails on outputs {shape}: {told}"], FUNCTION
        ) from error
    if not values.requires_grad:
        raise ConfigError(
            [f"loss {name_of(loss)} has no gradient at the outputs"], FUNCTION
        )
