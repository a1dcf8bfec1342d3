"""The form that a model of someone else's must have: logits, a state, points apart."""

import weakref

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from poisonbench.data import Layout
from poisonbench.errors import ConfigError
from poisonbench.functional import names_of_keys
from poisonbench.models.finding import note_head
from poisonbench.seeding import exact_arithmetic

FORM = "a model maps x (B, *shape) to logits (B, C), the same at every call"
# between the outputs of a row alone and beside others: rounding, and no more
RTOL = 1e-3
ATOL = 1e-4

_built: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def check_form(
    model: nn.Module,
    name: str,
    layout: Layout,
) -> None:
    """Tries a new model, in evaluation mode, on two instances; what is lazy gets its shape here.

    Args:
        model: what the function `name` returned.
        name: for the messages.
        layout: of the data that it is to classify, C classes.

    Raises:
        ConfigError: its output is not (B, C) or another at every call, it was built before, it
            keeps state that is neither parameter nor buffer, has nothing to train, or a point's
            output depends on the points beside it.
    """
    _check_new(model, name)
    x = layout.sample(2)
    with torch.no_grad():
        out = model(x)
        again = model(x)
    if out.shape != (2, layout.classes):
        shape = tuple(out.shape)
        found = (
            f"model {name!r} gives outputs of shape {shape}, not (2, {layout.classes})"
        )
        raise ConfigError([found], FORM)
    if not torch.equal(out, again):
        raise _changing(f"model {name!r}")
    note_head(model, x)
    _check_state(model, name)
    check_points_apart(model, x)


def _check_new(model: nn.Module, name: str) -> None:
    """Refuses modules that an earlier model holds too: to train one would change the other."""
    for path, module in model.named_modules():
        trained = any(p.requires_grad for p in module.parameters(recurse=False))
        kept = trained or any(True for _ in module.buffers(recurse=False))
        if kept and module in _built:
            raise ConfigError(
                [
                    f"model {name!r} holds the same module as a model built before: {path!r}"
                ],
                "build new modules at every call, or return a copy (copy.deepcopy)",
            )
    _built.update(model.modules())


def _check_state(model: nn.Module, name: str) -> None:
    known = names_of_keys(model)
    for key in model.state_dict():
        if key not in known:
            raise ConfigError(
                [f"model {name!r} keeps {key!r}, which is no parameter and no buffer"],
                "register it as a buffer, so that checkpoints hold it",
            )
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(
            [f"model {name!r} has no parameter that requires a gradient"],
            "a head is a linear layer to be trained",
        )


def batch_layers(model: nn.Module) -> list[str]:
    """Names the layers that take statistics of a batch while they train, such as BatchNorm."""
    return [
        _named(name, m)
        for name, m in model.named_modules()
        if isinstance(m, _BatchNorm)
    ]


def _changing(who: str) -> ConfigError:
    """The error of a model that draws, or counts its calls."""
    return ConfigError(
        [f"{who} gives other outputs at a second call, in evaluation mode"],
        "draw and count nothing there: nn.Dropout, F.dropout(x, training=self.training)",
    )


def check_repeatable(model: nn.Module, x: Tensor) -> None:
    """Refuses a model that, in evaluation mode, answers the same points otherwise when asked again.

    Args:
        model: in evaluation mode; it is called twice.
        x: (B, *shape).

    Raises:
        ConfigError: its outputs differ by more than rounding.
    """
    with torch.no_grad(), exact_arithmetic():
        first: Tensor = model(x)
        again: Tensor = model(x)
    if not close(first, again):
        raise _changing("the model")


def check_points_apart(model: nn.Module, x: Tensor) -> None:
    """Refuses a model that, in evaluation mode, answers a point by the points beside it.

    Args:
        model: in evaluation mode; it is called on x and on every row of x alone.
        x: (B, *shape), B >= 2 different instances.

    Raises:
        ConfigError: outputs of a row alone are others than within the batch.
    """
    if _points_apart(model, x):
        return
    blamed = [
        _named(name, module)
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is None
    ]
    names = ", ".join(blamed) or type(model).__name__
    raise ConfigError(
        [
            f"the output for a point depends on the points beside it in the batch: {names}"
        ],
        "use GroupNorm or LayerNorm, BatchNorm with track_running_stats=True, and batches first",
    )


def _points_apart(model: nn.Module, x: Tensor) -> bool:
    with torch.no_grad(), exact_arithmetic():
        together: Tensor = model(x)
        try:
            alone: Tensor = torch.cat([model(row) for row in x.split(1)])
        except ValueError:  # BatchNorm without running statistics needs two
            return False
    return together.shape == alone.shape and close(together, alone)


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs of a model for the same instances differ by rounding at most."""
    return torch.allclose(
        one,
        other,
        rtol=RTOL,
        atol=ATOL,
        equal_nan=True,
    )


def _named(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__})"
