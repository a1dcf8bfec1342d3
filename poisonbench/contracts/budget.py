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
    poisoned: Poisoned, clean: Dataset, field: str, share: float, role: int, deleted: int
) -> Iterator[str]:
    n = len(clean)
    asked = count(share, n)
    rows = int((poisoned.role == role).sum())
    spent = rows + deleted
    if spent >= asked:
        return
    told = f"{field} {share:g} of {n} rows pays for {asked} rows, {spent} were spent"
    reason = _reason(poisoned, clean, role)
    yield f"{told} ({spent / n:.2%} of all): {reason}; {field}={spent / n:.6g} asks for as many"


def _reason(poisoned: Poisoned, clean: Dataset, role: int) -> str:
    """Says which classes are used up, as far as the rows show it."""
    used = poisoned.origin[(poisoned.role == role) & (poisoned.origin >= 0)]
    touched = torch.isin(clean.y, clean.y[used].unique())
    stayed = torch.zeros_like(touched)
    stayed[poisoned.origin[(poisoned.role == CLEAN) & (poisoned.origin >= 0)]] = True
    if not len(used) or bool((stayed & touched).any()):
        return "the attack chose no more"
    if role == COVER:
        return f"{_named(clean.y[used])} only {len(used)} rows beside the poison"
    return f"{_named(clean.y[used])} only {int(touched.sum())} rows"


def _named(labels: Tensor) -> str:
    """Returns "class 3 has" or "classes 1, 2 have" for the labels that occur, (k,)."""
    names = [str(label) for label in labels.unique().tolist()]
    if len(names) == 1:
        return f"class {names[0]} has"
    return f"classes {', '.join(names)} have"
