"""A model that was trained elsewhere, and its training set: judged once, before any work."""

import copy
from dataclasses import dataclass, field, replace

from torch import nn

from poisonbench.checks import check_not_negative, check_number, check_type
from poisonbench.data import Dataset
from poisonbench.data.convert import as_part
from poisonbench.data.form import FLOATS
from poisonbench.data.judge import check_finite, check_labels
from poisonbench.errors import ConfigError, DataError
from poisonbench.losses import (
    CROSS_ENTROPY,
    Loss,
    check_loss,
    has_labels,
    name_of,
)
from poisonbench.models import predict
from poisonbench.models.form import check_points_apart, check_repeatable
from poisonbench.models.head import known_head
from poisonbench.models.wrap import wrap
from poisonbench.training.given.objective import check_apart, check_differentiable


@dataclass(frozen=True, eq=False)
class Given:
    """The form of a model that was trained elsewhere.

    Attributes:
        module: a copy of it, in evaluation mode, that gives logits (B, C), its head noted.
        head: name of the linear layer that gives the logits, None where there is none.
        loss: by which it was trained. Binary cross entropy on one logit f is told as cross entropy
            on the logits (0, f), which the module gives.
        weight_decay: w of the regulariser (w/2)|theta|^2.
    """

    module: nn.Module = field(repr=False)
    head: str | None
    loss: Loss
    weight_decay: float

    def fresh(self) -> nn.Module:
        """Returns a copy of the model, in evaluation mode."""
        return copy.deepcopy(self.module)


def form_of(
    model: object,
    train: object,
    head: str | None,
    loss: Loss,
    weight_decay: float,
) -> tuple[Given, Dataset]:
    """Returns the form of a model, and its training set, where it lies and in its floating type.

    The model itself stays as it is, training mode included.

    Args:
        model: any module; see `poisonbench.models.wrap`.
        train: a Dataset, a TensorDataset or torch Dataset of pairs, or a pair (x, y).
        head: name of its head, or None.
        loss: by which it was trained.
        weight_decay: w of the regulariser (w/2)|theta|^2.

    Raises:
        TypeError: `model` is no nn.Module.
        ValueError: the weight decay is negative.
        ModelError: the model does not take the instances, or gives no (B, C) for them.
        ConfigError: no linear layer of the name of the head gives the logits.
        DataError: `train` is none of these, has no rows, or values or labels that do not fit.
    """
    check_type("model", model, nn.Module, "an nn.Module, not its state or its file")
    check_loss(loss)
    assert isinstance(model, nn.Module)
    check_number("weight_decay", weight_decay)
    check_not_negative("weight_decay", weight_decay)
    data, told = _read(model, train)
    one_logit = loss == "binary-cross-entropy"
    module = wrap(model, data.x[:2], head, one_logit)
    check_repeatable(module, data.x[:2])
    if len(data) > 1:
        check_points_apart(module, data.x[:2])
    if one_logit:
        loss = CROSS_ENTROPY
    outputs = predict(module, data.x[:2])
    if outputs.shape[1] == 1 and has_labels(loss):
        raise ConfigError(
            [f"the model has one output, and loss {name_of(loss)} needs one per class"],
            "loss='binary-cross-entropy', or 'mean-squared-error'",
        )
    data = _classified(module, data, told)
    check_differentiable(loss, outputs, data.y[:2])
    check_apart(loss, outputs, data.y[:2])
    given = Given(module, known_head(module), loss, float(weight_decay))
    return given, data


def _read(model: nn.Module, found: object) -> tuple[Dataset, int | None]:
    """Returns the rows where the model lies, and the number of classes if they tell it."""
    part = as_part(found, "the training set")
    told = None
    if isinstance(part, Dataset):
        data = part
        told = part.classes
    else:
        data = Dataset(part[0], part[1], classes=1)
    if not len(data):
        raise DataError("the training set has no rows", "give at least one")
    data = beside(model, data)
    check_finite(data, "the training set")
    return data, told


def _classified(module: nn.Module, data: Dataset, told: int | None) -> Dataset:
    """Returns the data with as many classes as the model tells apart."""
    classes = predict(module, data.x[:1]).shape[1]
    if classes == 1:  # one number, which tells no classes apart
        classes = told or max(2, int(data.y.max()) + 1)
    if told not in (None, classes):
        raise DataError(
            f"the training set has {told} classes, the model tells {classes} apart",
            "give the data set as many classes as the model has outputs",
        )
    data = replace(data, classes=classes)
    check_labels(data, "the training set")
    return data


def beside(model: nn.Module, data: Dataset) -> Dataset:
    """Returns the data where the parameters of a model lie, in their floating type.

    Raises:
        ConfigError: that type is of half precision.
    """
    for p in model.parameters():
        if p.is_floating_point():
            if p.dtype not in FLOATS:
                told = f"the model is in {p.dtype}, which rounds influence away"
                raise ConfigError([told], "model.float(); its states are converted")
            return data.to(p.device, p.dtype)
    return data
