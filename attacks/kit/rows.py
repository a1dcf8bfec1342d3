"""What attacks share: checks of hyperparameters, drawing rows within the budget, and the ground truth of a Poisoned."""

import torch
from torch import Tensor

from poisonbench.contracts.attack_rules import RULES, count
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.roles import CLEAN, POISON
from poisonbench.seeding import generator


def check_class(name: str, value: int | None, classes: int) -> None:
    """Raises PoisonError (rule "label") if `value` is no class of a data set of C = `classes`; None passes."""
    if value is not None and not 0 <= value < classes:
        raise PoisonError(
            "label", f"{name} must lie in [0, {classes}), got {value}", RULES["label"]
        )


def draw(eligible: Tensor, budget: float, seed: int, stream: str = "poison rows") -> Tensor:
    """Draws the rows to poison, ascending: as many as the budget pays for, or all that are eligible if those are fewer.

    Args:
        eligible: (n,) bool over the whole training set.
        budget: poisoned rows as a fraction of n.
        seed: of the draw.
        stream: what the rows are for; draws for other purposes are independent.

    Returns:
        (k,) int64 on the device of `eligible`.

    Raises:
        ConfigError: no row is eligible.
    """
    rows = eligible.nonzero().squeeze(1)
    if not len(rows):
        raise ConfigError(
            [f"none of the {len(eligible)} training rows can be poisoned"],
            "choose other classes for the attack",
        )
    order = torch.randperm(len(rows), generator=generator(seed, stream))
    return rows[order[: count(budget, len(eligible))].to(rows.device)].sort().values


def replace(
    clean: Dataset, rows: Tensor, x: Tensor, y: Tensor, role: Tensor | int = POISON
) -> tuple[Dataset, Tensor, Tensor]:
    """Replaces rows of the clean training set in place: the first half of a `Poisoned`.

    Args:
        clean: n rows, left as they are.
        rows: (k,) int64, which ones.
        x: (k, *shape), their new instances.
        y: (k,) int64, their new labels.
        role: of these rows, one for all or (k,).

    Returns:
        train, role (n,) uint8 and origin (n,) int64.
    """
    train = Dataset(clean.x.index_copy(0, rows, x), clean.y.index_copy(0, rows, y), clean.classes)
    roles = torch.full_like(clean.y, CLEAN, dtype=torch.uint8)
    roles[rows] = torch.as_tensor(role, dtype=torch.uint8, device=rows.device)
    return train, roles, torch.arange(len(clean), device=clean.y.device)


def attacked(
    test: Dataset, rows: Tensor, wanted: Tensor, x: Tensor | None = None
) -> tuple[Dataset, Tensor, Tensor]:
    """Names the attacked test points: the second half of a `Poisoned`.

    Args:
        test: the clean test set.
        rows: (m,) int64, the attacked ones.
        wanted: (m,) int64, the labels that the attacker wants.
        x: (m, *shape), the points as presented; None for the clean ones.

    Returns:
        targets with true labels, wanted and target_origin, of m rows each.
    """
    clean = test.take(rows)
    return Dataset(clean.x if x is None else x, clean.y, test.classes), wanted, rows


def nothing(data: Dataset) -> Tensor:
    """Returns no rows of `data`: (0,) int64 on its device."""
    return data.y.new_empty(0)
