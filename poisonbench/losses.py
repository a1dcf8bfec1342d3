"""Losses by which models are trained, of one instance, and their gradients at the outputs.

Cross entropy has closed forms that are right at any confidence; every other loss is differentiated
by autograd at the outputs alone, so that the model is passed as often as for cross entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from poisonbench.errors import ConfigError
from poisonbench.objectives import Objective, logit_gradient
from poisonbench.registry import lookup, nearest

# a name of `LOSSES`, "package.module:function", or a function: outputs (B, C), labels (B,) int64
# -> the loss of each, (B,)
Loss = str | Callable[[Tensor, Tensor], Tensor]
Seeds = Callable[[Tensor, Tensor], Tensor]  # outputs (B, C), labels (B,) -> (B, C)
CROSS_ENTROPY = "cross-entropy"


@dataclass(frozen=True)
class LabelSmoothing:
    """Cross entropy with labels of which all C classes have a share in equal parts.

    Attributes:
        share: in [0, 1), as `label_smoothing` of PyTorch.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be in [0, 1), got {self.share}")

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Returns the loss of each instance, (B,)."""
        return F.cross_entropy(outputs, y, reduction="none", label_smoothing=self.share)


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Returns minus the log of the softmax at the labels, (B,)."""
    return F.cross_entropy(outputs, y, reduction="none")


def binary_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Returns the cross entropy of labels 0 and 1 for one logit of class 1, (B, 1) -> (B,)."""
    sign = 2 * y.to(outputs.dtype) - 1
    return F.softplus(-sign * outputs.squeeze(1))


def mean_squared_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Returns the mean over the outputs of the squared distance to the label, (B,).

    To the one-hot label for C outputs; for one output, to y itself as a number.
    """
    if outputs.shape[1] == 1:
        wanted = y[:, None].to(outputs.dtype)
    else:
        wanted = F.one_hot(y, outputs.shape[1]).to(outputs.dtype)
    return (outputs - wanted).square().mean(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    CROSS_ENTROPY: cross_entropy,
    "binary-cross-entropy": binary_cross_entropy,
    "mean-squared-error": mean_squared_error,
    "label-smoothing": LabelSmoothing(),
}


def check_loss(loss: object) -> None:
    """Raises ValueError for a name that is none of `LOSSES`, TypeError for what is no function.

    "package.module:function" is looked up, and a ConfigError raised where there is none.
    """
    if isinstance(loss, str):
        if ":" in loss:
            check_loss(function_of(loss))
        elif loss not in LOSSES:
            allowed = ", ".join(LOSSES)
            near = nearest(loss, LOSSES)
            raise ValueError(f"loss must be one of {allowed}, got {loss!r}{near}")
    elif not callable(loss):
        kind = type(loss).__name__
        raise TypeError(
            f"loss must be a name, or a function (outputs, y) -> (B,), got {kind}"
        )


def function_of(loss: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the function of a loss that there is."""
    if not isinstance(loss, str):
        return loss
    return lookup(LOSSES, loss, "loss")


def name_of(loss: Loss) -> str:
    """Returns the name of a loss for messages."""
    if isinstance(loss, str):
        return loss
    return getattr(loss, "__name__", repr(loss))


def each(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """Returns the loss of every instance, (B,).

    Args:
        loss: a name, or a function.
        outputs: (B, C) of a model.
        y: (B,) int64.

    Raises:
        ConfigError: the function does not return one value an instance.
    """
    check_loss(loss)
    values = function_of(loss)(outputs, y)
    if not isinstance(values, Tensor) or values.shape != y.shape:
        found: object = type(values).__name__
        if isinstance(values, Tensor):
            found = tuple(values.shape)
        raise ConfigError(
            [f"loss {name_of(loss)} must return {tuple(y.shape)}, got {found}"],
            "one value an instance: reduction='none'; nn.CrossEntropyLoss() is 'cross-entropy'",
        )
    return values


def minus_loss(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """Returns minus the loss of K models at m points, (K, m), for outputs (K, m, C)."""
    flat = outputs.flatten(0, 1)
    return -each(loss, flat, y.repeat(len(outputs))).view(outputs.shape[:2])


def seeds_of(objective: Objective, loss: Loss) -> Seeds:
    """Returns the function that gives d objective / d outputs, (B, C).

    Raises:
        ConfigError: the margin, for a loss other than cross entropy.
    """
    if objective == "margin":
        check_cross_entropy(loss, "the margin")
    if loss == CROSS_ENTROPY:
        return partial(logit_gradient, objective=objective)
    return partial(_by_autograd, loss)


def _by_autograd(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    with torch.enable_grad():
        free = outputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(each(loss, free, y).sum(), free)
    return gradient


def check_cross_entropy(loss: Loss, who: str) -> None:
    """Refuses what rests on cross entropy for a run that descends another loss.

    Raises:
        ConfigError: names both.
    """
    if loss != CROSS_ENTROPY:
        raise ConfigError(
            [
                f"{who} rests on cross entropy, and the loss of the run is {name_of(loss)}"
            ],
            "take tracin, gas or influence-functions, which take any loss",
        )


def direction(loss: Loss) -> Objective:
    """Returns the objective whose gradients are normalised in the place of the loss gradients.

    Of cross entropy the margin: its gradients have the same line, and do not vanish with growing
    confidence.
    """
    return "margin" if loss == CROSS_ENTROPY else "loss"


def has_labels(loss: Loss) -> bool:
    """Whether the curvature at the outputs is an expectation over labels that the model predicts.

    So it is for cross entropy, with smoothed labels as well: they change gradients, not curvature.
    """
    return loss in (CROSS_ENTROPY, "label-smoothing") or isinstance(
        loss, LabelSmoothing
    )
