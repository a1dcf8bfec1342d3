"""What a budget pays for, and the warning where an attack spends less, as a class may be small."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import BudgetWarning
from poisonbench.roles import CLEAN, COVER, POISON


def count(budget: float, n: int) -> int:
    """Returns the rows that a budget, a fraction of n training rows, pays for: at least 1."""
    return max(1, round(budget * n))


def warn_of_unspent(poisoned: Poisoned, clean: Dataset, attack: object) -> None:
    """Warns where poison rows (with deleted ones) or cover rows are fewer than was asked.

    Args:
        poisoned: what the attack returned; it keeps to the contract.
        clean: the n training rows that it was given.
        attack: the attack; its fields `budget` and `cover`, where it has them, are what was asked.
    """
    for message in unspent(poisoned, clean, attack):
        warnings.warn(message, BudgetWarning, stacklevel=3)


def unspent(poisoned: Poisoned, clean: Dataset, attack: object) -> Iterator[str]:
    """Yields a line for each of `budget` and `cover` that was not spent: asked, spent, why."""
    n = len(clean)
    deleted = n - int((poisoned.origin >= 0).sum())
    budget = getattr(attack, "budget", None)
    if budget is not None:
        yield from _missing(poisoned, clean, "budget", budget, POISON, deleted)
    cover = getattr(attack, "cover", 0.0)
    if cover:
        yield from _missing(poisoned, clean, "cover", cover, COVER, 0)


def _missing(
    poisoned: Poisoned,
    clean: Dataset,
    field: str,
    share: float,
    role: int,
    deleted: int,
) -> Iterator[str]:
    n = len(clean)
    asked = count(share, n)
    rows = int((poisoned.role == role).sum())
    spent = rows + deleted
    if spent >= asked:
        return
    achieved = spent / n
    asked_for = f"{field} {share:g} of {n} rows pays for {asked} rows"
    spent_on = f"{spent} were spent ({achieved:.2%} of all)"
    reason = _reason(poisoned, clean, role)
    way_out = f"{field}={achieved:.6g} asks for as many"
    yield f"{asked_for}, {spent_on}: {reason}; {way_out}"


def _reason(poisoned: Poisoned, clean: Dataset, role: int) -> str:
    """Says which classes are used up, as far as the rows show it."""
    labels = clean.y[_origins(poisoned, role)]
    touched = torch.isin(clean.y, labels)
    stayed = torch.zeros_like(touched)
    stayed[_origins(poisoned, CLEAN)] = True
    if not len(labels) or bool((stayed & touched).any()):
        return "the attack chose no more"
    classes = _named(labels)
    if role == COVER:
        return f"{classes} only {len(labels)} rows beside the poison"
    return f"{classes} only {int(touched.sum())} rows"


def _origins(poisoned: Poisoned, role: int) -> Tensor:
    """Returns the clean rows, (k,) int64, that were made into rows of a role."""
    known = poisoned.origin >= 0
    return poisoned.origin[known & (poisoned.role == role)]


def _named(labels: Tensor) -> str:
    """Returns "class 3 has" or "classes 1, 2 have" for the labels that occur, (k,)."""
    names = [str(label) for label in labels.unique().tolist()]
    if len(names) == 1:
        return f"class {names[0]} has"
    return f"classes {', '.join(names)} have"
