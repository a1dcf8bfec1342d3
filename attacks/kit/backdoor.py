"""What trigger attacks share: which rows and test points get the trigger, and which labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attacks.kit.rows import check_class, draw, poison_in_place, rows_of
from poisonbench.checks import check_at_least, check_different
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.roles import COVER, POISON
from poisonbench.seeding import generator

# (k, *shape) -> (k, *shape), row by row, without changing its argument
Trigger = Callable[[Tensor], Tensor]
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


def check_classes(target: int | str, source: int | None = None) -> None:
    """Raises ValueError unless `target` and `source` are two labels.

    "all-to-all" goes with no source.
    """
    if target == "all-to-all":
        if source is not None:
            rule = "target all-to-all attacks every class and takes no source"
            raise ValueError(f"{rule}, got source={source}")
        return
    if isinstance(target, str):
        raise ValueError(f"target must be a label or all-to-all, got {target!r}")
    check_at_least("target", target, 0)
    check_at_least("source", source, 0)
    check_different("source", source, "target", target)


def wanted(y: Tensor, target: Target, classes: int) -> Tensor:
    """Returns (k,) int64, the label that the attacker wants where the true labels are y, (k,)."""
    if isinstance(target, str):
        return (y + 1) % classes
    return torch.full_like(y, target)


def noise_image(x: Tensor, seed: int) -> Tensor:
    """Returns uniform noise of the shape of one image of x, (k, *shape), equal for equal seeds."""
    g = generator(seed, "blend")
    noise = torch.rand(x.shape[1:], generator=g, dtype=torch.float32)
    return noise.to(x)


def noise_vector(x: Tensor, seed: int) -> Tensor:
    """Returns normal noise of the shape of one vector of x, (k, d), equal for equal seeds."""
    g = generator(seed, "blend")
    noise = torch.randn(x.shape[1:], generator=g, dtype=torch.float32)
    return noise.to(x)


def mix(x: Tensor, image: Tensor, weight: Tensor | float) -> Tensor:
    """Returns (1 - weight) x + weight image; clamped, as rounding may leave [0, 1] by an ulp."""
    return ((1 - weight) * x + weight * image).clamp(0, 1)


def attacked_rows(data: Dataset, target: Target, source: int | None) -> Tensor:
    """Returns (n,) bool: the rows of `source`, or of all classes but the target.

    Raises:
        PoisonError: rule "label", `target` or `source` is no class.
    """
    if isinstance(target, str):
        return torch.ones_like(data.y, dtype=torch.bool)
    check_class("target", target, data.classes)
    check_class("source", source, data.classes)
    if source is None:
        return data.y != target
    return data.y == source


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
    """Triggers rows of other classes, labels them as wanted, attacks the points of those classes.

    Args:
        train: n clean rows.
        test: clean test rows.
        trigger: the one function used to poison and at test time.
        target: the label that the attacker wants, or "all-to-all" for the class after the true one.
        budget: poisoned rows as a fraction of n.
        seed: of the choice of rows.
        source: the one class that is poisoned and attacked; None for all but the target.
        poison: what the poison rows get instead, for attacks that show them a part of the trigger.
        cover: further rows with a trigger and their true labels.

    Raises:
        PoisonError: rule "label", `target` or `source` is no class.
        ConfigError: no training row can be poisoned, or is left for cover.
    """
    rows = draw(attacked_rows(train, target, source), budget, seed)
    x = (poison or trigger)(train.x[rows])
    y = wanted(train.y[rows], target, train.classes)
    role = torch.full_like(rows, POISON)
    if cover is not None and cover.share:
        left = cover.eligible.index_fill(0, rows, False)
        if not bool(left.any()):
            what = f"no training row is left for cover, {cover.share:g} of all"
            raise ConfigError([what], "spend a smaller `budget`, or set `cover` = 0")
        kept = draw(left, cover.share, seed, "cover rows")
        covering = cover.trigger(train.x[kept])
        x = torch.cat([x, covering])
        y = torch.cat([y, train.y[kept]])
        role = torch.cat([role, torch.full_like(kept, COVER)])
        rows = torch.cat([rows, kept])
    points = rows_of(attacked_rows(test, target, source))
    return poison_in_place(
        train,
        test,
        rows=rows,
        x=x,
        y=y,
        role=role,
        points=points,
        wanted=wanted(test.y[points], target, test.classes),
        shown=trigger(test.x[points]),
    )


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
    """Triggers rows of the target class, which keep their labels; attacks points of other classes.

    Args:
        train: n clean rows.
        test: clean test rows.
        trigger: the one function used to poison and at test time.
        target: the label that the attacker wants.
        budget: poisoned rows as a fraction of n; no more than the class has.
        seed: of the choice of rows.
        source: the one class that is attacked; None for all but the target.
        poison: what the poison rows get instead, for attacks that harden them first or hide the
            trigger in them.

    Raises:
        PoisonError: rule "label", `target` or `source` is no class.
        ConfigError: no training row is of the target class.
    """
    check_class("target", target, train.classes)
    rows = draw(train.y == target, budget, seed)
    x = (poison or trigger)(train.x[rows])
    points = rows_of(attacked_rows(test, target, source))
    return poison_in_place(
        train,
        test,
        rows=rows,
        x=x,
        points=points,
        wanted=wanted(test.y[points], target, test.classes),
        shown=trigger(test.x[points]),
    )
