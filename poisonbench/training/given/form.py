"""A model that was trained elsewhere, and its training set: judged once, before any work."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from poisonbench.checks import check_not_negative, check_number, check_type
from poisonbench.data import Dataset
from poisonbench.data.convert import as_part
from poisonbench.data.judge import check_finite, check_labels
from poisonbench.errors import ConfigError, DataError
from poisonbench.models import predict
from poisonbench.models.form import check_points_apart

Loss = str | Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Given:
    """The form of a model that was trained elsewhere.

    Attributes:
        module: a copy of it, in evaluation mode, as it was given.
        head: name of the last linear layer, None where there is none.
        loss: by which it was trained.
        weight_decay: w of the regulariser (w/2)|theta|^2.
    """

    module: nn.Module
    head: str | None
    loss: Loss
    weight_decay: float

    def fresh(self) -> nn.Module:
        """Returns a copy of the model, in evaluation mode."""
        return copy.deepcopy(self.module)


def form_of(
    model: object,
    head: str | None,
    loss: Loss,
    weight_decay: float,
) -> Given:
    """Returns the form of a model; the model itself stays as it is, training mode included.

    Raises:
        TypeError: `model` is no nn.Module.
        ValueError: the weight decay is negative.
        ConfigError: no linear layer of the name of the head.
    """
    check_type("model", model, nn.Module, "an nn.Module, not its state or its file")
    assert isinstance(model, nn.Module)
    check_number("weight_decay", weight_decay)
    check_not_negative("weight_decay", weight_decay)
    module = copy.deepcopy(model).eval()
    return Given(module, _head_name(module, head), loss, float(weight_decay))


def _head_name(module: nn.Module, wanted: str | None) -> str | None:
    """Returns the name of the head: "head" behind "features" where nobody names another."""
    layers = dict(module.named_modules())
    linear = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
    if wanted is None:
        own = "features" in layers and "head" in linear
        return "head" if own else None
    if wanted not in linear:
        raise ConfigError(
            [f"the model has no linear layer named {wanted!r}, for the head"],
            f"its linear layers: {', '.join(linear) or 'none'}",
        )
    return wanted


def data_of(form: Given, found: object) -> Dataset:
    """Returns the training set of a model, on the model's device and in its floating type.

    Args:
        form: of the model, whose outputs tell the number of classes.
        found: a Dataset, a TensorDataset or torch Dataset of pairs, or a pair (x, y).

    Raises:
        DataError: it is none of these, has no rows, or values or labels that do not fit the model.
        ConfigError: the model does not take the instances, or gives no (B, C) for them.
    """
    part = as_part(found, "the training set")
    told = None
    if isinstance(part, Dataset):
        data = part
        told = part.classes
    else:
        data = Dataset(part[0], part[1], classes=1)
    if not len(data):
        raise DataError("the training set has no rows", "give at least one")
    data = beside(form.module, data)
    check_finite(data, "the training set")
    classes = _classes(form.module, data)
    if told not in (None, classes):
        raise DataError(
            f"the training set has {told} classes, the model tells {classes} apart",
            "give the data set as many classes as the model has outputs",
        )
    data = replace(data, classes=classes)
    check_labels(data, "the training set")
    return data


def beside(model: nn.Module, data: Dataset) -> Dataset:
    """Returns the data where the parameters of a model lie, in their floating type."""
    for p in model.parameters():
        if p.is_floating_point():
            return data.to(p.device, p.dtype)
    return data


def _classes(model: nn.Module, data: Dataset) -> int:
    """Returns the number of classes that the outputs of a model tell apart; one logit tells two."""
    x = data.x[:2]
    try:
        out = predict(model, x)
    except Exception as error:  # a model of someone else's may raise anything
        told = " ".join(str(error).split())
        kind = type(error).__name__
        raise ConfigError(
            [f"the model fails on instances of shape {data.shape}: {kind}: {told}"],
            "give the training set as the model was trained on it: shape and order of axes",
        ) from error
    rows = len(x)
    if out.dim() != 2 or len(out) != rows:
        shape = tuple(out.shape)
        raise ConfigError(
            [f"the model gives {shape} for {rows} instances, not ({rows}, C)"],
            "a model maps instances to logits (B, C)",
        )
    if rows > 1:
        check_points_apart(model, x)
    return max(2, out.shape[1])
