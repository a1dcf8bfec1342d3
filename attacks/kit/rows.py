"""What all attacks share: the rows that a budget pays for, and the `Poisoned` from named parts."""

from dataclasses import replace

import torch
from torch import Tensor

from poisonbench.contracts.attack_rules import RULES
from poisonbench.contracts.budget import count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.roles import CLEAN, POISON
from poisonbench.seeding import generator


def check_class(name: str, value: int | None, classes: int) -> None:
    """Raises PoisonError (rule "label") unless `value` is a class of a data set; None passes."""
    if value is not None and not 0 <= value < classes:
        what = f"{name} must lie in [0, {classes}), got {value}"
        raise PoisonError("label", what, RULES["label"])


def every_row(data: Dataset) -> Tensor:
    """Returns the mask of all rows, (n,) bool."""
    return torch.ones_like(data.y, dtype=torch.bool)


def rows_of(mask: Tensor) -> Tensor:
    """Returns the rows where mask, (n,) bool, holds: (k,) int64, ascending."""
    return mask.nonzero().squeeze(1)


def draw(
    eligible: Tensor,
    budget: float,
    seed: int,
    stream: str = "poison rows",
) -> Tensor:
    """Draws the rows to poison: as many as the budget pays for, or all that are eligible if fewer.

    Args:
        eligible: (n,) bool over the whole training set.
        budget: poisoned rows as a fraction of n.
        seed: of the draw.
        stream: what the rows are for; draws for other purposes are independent.

    Returns:
        (k,) int64 on the device of `eligible`, ascending.

    Raises:
        ConfigError: no row is eligible.
    """
    rows = rows_of(eligible)
    if not len(rows):
        what = f"none of the {len(eligible)} training rows can be poisoned"
        raise ConfigError([what], "choose other classes for the attack")
    g = generator(seed, stream)
    order = torch.randperm(len(rows), generator=g)
    drawn = order[: count(budget, len(eligible))]
    return rows[drawn.to(rows.device)].sort().values


def poison_in_place(
    train: Dataset,
    test: Dataset,
    *,
    rows: Tensor | None = None,
    x: Tensor | None = None,
    y: Tensor | None = None,
    role: Tensor | int = POISON,
    points: Tensor | None = None,
    wanted: Tensor | None = None,
    shown: Tensor | None = None,
) -> Poisoned:
    """Replaces rows of the clean training set in place, and names the attacked test points.

    Args:
        train: n clean rows, left as they are.
        test: the clean test set.
        rows: (k,) int64, which training rows are replaced; None for none.
        x: (k, *shape), their new instances; None keeps the instances.
        y: (k,) int64, their new labels; None keeps the labels.
        role: of these rows, one for all or (k,).
        points: (m,) int64, the attacked test rows; None for an attack on no point in particular.
        wanted: (m,) int64, the labels that the attacker wants; goes with `points`.
        shown: (m, *shape), the points as presented; None for the clean ones.

    Returns:
        All rows of the training set in their order, a copy.
    """
    rows = _given(rows, no_rows(train))
    points = _given(points, no_rows(test))
    x = _given(x, train.x[rows])
    y = _given(y, train.y[rows])
    changed = replace(
        train,
        x=train.x.index_copy(0, rows, x),
        y=train.y.index_copy(0, rows, y),
    )
    targets = test.take(points)
    return Poisoned(
        train=changed,
        role=_roles(train, rows, role),
        origin=torch.arange(len(train), device=train.y.device),
        targets=replace(targets, x=_given(shown, targets.x)),
        wanted=_given(wanted, no_rows(test)),
        target_origin=points,
    )


def no_rows(data: Dataset) -> Tensor:
    """Returns no rows of `data`: (0,) int64 on its device."""
    return data.y.new_empty(0)


def _roles(train: Dataset, rows: Tensor, role: Tensor | int) -> Tensor:
    """Returns (n,) uint8: `role` in the rows, clean elsewhere."""
    roles = torch.full_like(train.y, CLEAN, dtype=torch.uint8)
    roles[rows] = torch.as_tensor(role, dtype=torch.uint8, device=rows.device)
    return roles


def _given(value: Tensor | None, otherwise: Tensor) -> Tensor:
    return otherwise if value is None else value
