"""What trigger attacks share: rows of other classes get the trigger and the target label, and so does every test point."""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks._common import attacked, check_class, draw, replace
from poisonbench.contracts import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError

Trigger = Callable[[Tensor], Tensor]  # (k, *shape) -> (k, *shape), row by row, without changing its argument


def check_images(data: Dataset, attack: object) -> None:
    """Raises ConfigError unless the instances are images (channels, height, width)."""
    if len(data.shape) != 3:
        raise ConfigError(
            [f"{type(attack).__name__} works on images (channels, height, width), got instances of shape {data.shape}"],
            "choose an image data set, or an attack that only changes labels, such as label-flip",
        )


def dirty_label(train: Dataset, test: Dataset, trigger: Trigger, *, target: int, budget: float, seed: int) -> Poisoned:
    """Triggers rows of the other classes in place and labels them `target`; attacks all test points of the other classes.

    Args:
        train: n clean rows.
        test: clean test rows.
        trigger: the one function used to poison and at test time.
        target: the label that the attacker wants.
        budget: poisoned rows as a fraction of n.
        seed: of the choice of rows.

    Raises:
        PoisonError: rule "label", `target` is no class.
        ConfigError: all training rows are of class `target`.
    """
    check_class("target", target, train.classes)
    rows = draw(train.y != target, budget, seed)
    points = (test.y != target).nonzero().squeeze(1)
    return Poisoned(
        *replace(train, rows, trigger(train.x[rows]), torch.full_like(rows, target)),
        *attacked(test, points, torch.full_like(points, target), trigger(test.x[points])),
    )
