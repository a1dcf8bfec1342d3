"""What trigger attacks share: which rows and test points get the trigger, and the ground truth that follows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attacks.kit.rows import attacked, check_class, draw, replace
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.roles import COVER, POISON
from poisonbench.seeding import generator

Trigger = Callable[
    [Tensor], Tensor
]  # (k, *shape) -> (k, *shape), row by row, without changing its argument
Target = int | Literal["all-to-all"]


@dataclass(frozen=True, eq=False)
class Cover:
    """Rows that get a trigger and keep their labels.

    Attributes:
        share: cover rows as a fraction of the training set; 0 for none.
        eligible: (n,) bool, the rows that may serve.
        trigger: what is done to them.
    """

    share: float
    eligible: Tensor
    trigger: Trigger


def check_images(data: Dataset, attack: object) -> None:
    """Raises ConfigError unless the instances are images (channels, height, width)."""
    if len(data.shape) != 3:
        raise ConfigError(
            [
                f"{type(attack).__name__} works on images (channels, height, width), got instances of shape {data.shape}"
            ],
            "choose an image data set, or an attack that only changes labels, such as label-flip",
        )


def check_classes(target: int | str, source: int | None = None) -> None:
    """Raises ValueError unless `target` and `source` are two labels; "all-to-all" goes with no source."""
    if target == "all-to-all":
        if source is not None:
            raise ValueError(
                f"target all-to-all attacks every class and takes no source, got source={source}"
            )
        return
    if isinstance(target, str):
        raise ValueError(f"target must be a label or all-to-all, got {target!r}")
    check_at_least("target", target, 0)
    check_at_least("source", source, 0)
    if source == target:
        raise ValueError(f"source and target must differ, got {source} for both")


def wanted(y: Tensor, target: Target, classes: int) -> Tensor:
    """Returns (k,) int64, the label that the attacker wants for instances of the true labels y, (k,)."""
    return (y + 1) % classes if isinstance(target, str) else torch.full_like(y, target)


def noise_image(x: Tensor, seed: int) -> Tensor:
    """Returns uniform noise of the shape of one of the images x, (k, *shape): the same for equal seeds and shapes."""
    return torch.rand(x.shape[1:], generator=generator(seed, "blend"), dtype=torch.float32).to(x)


def mix(x: Tensor, image: Tensor, weight: Tensor | float) -> Tensor:
    """Returns (1 - weight) x + weight image; the sum of rounded weights may leave [0, 1] by an ulp, so it is clamped."""
    return ((1 - weight) * x + weight * image).clamp(0, 1)


def dirty_label(
    train: Dataset,
    test: Dataset,
    trigger: Trigger,
    target: Target,
    budget: float,
    seed: int,
    *,
    source: int | None = None,
    poison: Trigger | None = None,
    cover: Cover | None = None,
) -> Poisoned:
    """Triggers rows of other classes in place and labels them as wanted; attacks all test points of those classes.

    Args:
        train: n clean rows.
        test: clean test rows.
        trigger: the one function used to poison and at test time.
        target: the label that the attacker wants, or "all-to-all" for the class after the true one.
        budget: poisoned rows as a fraction of n.
        seed: of the choice of rows.
        source: the one class that is poisoned and attacked; None for all but the target.
        poison: what the poison rows get instead, for attacks that show them only a part of the trigger.
        cover: further rows with a trigger and their true labels.

    Raises:
        PoisonError: rule "label", `target` or `source` is no class.
        ConfigError: no training row can be poisoned.
    """
    rows = draw(_eligible(train, target, source), budget, seed)
    x, y, role = (
        (poison or trigger)(train.x[rows]),
        wanted(train.y[rows], target, train.classes),
        torch.full_like(rows, POISON),
    )
    if cover is not None and cover.share:
        kept = draw(cover.eligible.index_fill(0, rows, False), cover.share, seed, "cover rows")
        rows, x = torch.cat([rows, kept]), torch.cat([x, cover.trigger(train.x[kept])])
        y, role = torch.cat([y, train.y[kept]]), torch.cat([role, torch.full_like(kept, COVER)])
    return Poisoned(*replace(train, rows, x, y, role), *_attacked(test, trigger, target, source))


def clean_label(
    train: Dataset,
    test: Dataset,
    trigger: Trigger,
    *,
    target: int,
    budget: float,
    seed: int,
    source: int | None = None,
    poison: Trigger | None = None,
) -> Poisoned:
    """Triggers rows of the target class, which keep their labels; attacks all test points of the other classes.

    Args:
        train: n clean rows.
        test: clean test rows.
        trigger: the one function used to poison and at test time.
        target: the label that the attacker wants.
        budget: poisoned rows as a fraction of n; no more than the class has.
        seed: of the choice of rows.
        source: the one class that is attacked; None for all but the target.
        poison: what the poison rows get instead, for attacks that harden them first or hide the trigger in them.

    Raises:
        PoisonError: rule "label", `target` or `source` is no class.
        ConfigError: no training row is of the target class.
    """
    check_class("target", target, train.classes)
    rows = draw(train.y == target, budget, seed)
    changed = replace(train, rows, (poison or trigger)(train.x[rows]), train.y[rows])
    return Poisoned(*changed, *_attacked(test, trigger, target, source))


def _eligible(data: Dataset, target: Target, source: int | None) -> Tensor:
    """Returns (n,) bool, the rows whose label the attacker wants changed."""
    if isinstance(target, str):
        return torch.ones_like(data.y, dtype=torch.bool)
    check_class("target", target, data.classes)
    check_class("source", source, data.classes)
    return data.y != target if source is None else data.y == source


def _attacked(
    test: Dataset, trigger: Trigger, target: Target, source: int | None
) -> tuple[Dataset, Tensor, Tensor]:
    points = _eligible(test, target, source).nonzero().squeeze(1)
    return attacked(
        test, points, wanted(test.y[points], target, test.classes), trigger(test.x[points])
    )
