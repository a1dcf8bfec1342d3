"""The rules of a poisoning against the clean data that it was made from, and what its attack says.

The fields `budget`, `cover` and `eps` and the attribute `clean_label` of an attack are enforced
where it has them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from poisonbench.contracts.budget import count
from poisonbench.contracts.rules import broken, broken_rows
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.data.dataset import row_blocks
from poisonbench.data.tokens import edits
from poisonbench.errors import PoisonError
from poisonbench.roles import CLEAN, COVER, POISON

ROUNDING = 1e-6  # of clean + (poison - clean) in float32


def relation_faults(
    poisoned: Poisoned, clean: Dataset, test: Dataset, attack: object
) -> Iterator[PoisonError]:
    """Yields what is wrong with a poisoning whose form and values are right."""
    relabelled = poisoned.train.y != clean.y[poisoned.origin.clamp(min=0)]
    yield from _clean_rows(poisoned, clean)
    if getattr(attack, "budget", None) is not None:
        yield from _budget(poisoned, len(clean), attack)
    if getattr(attack, "clean_label", False):
        bad = _made_from_clean(poisoned) & relabelled
        yield from broken_rows("clean-label", "the label was changed", bad)
    if getattr(attack, "eps", None) is not None:
        yield from _eps(poisoned, clean, attack)
    yield from _targets(poisoned, test)


def _made_from_clean(poisoned: Poisoned) -> Tensor:
    """(n,) bool: the poison rows that come from a clean one."""
    return (poisoned.role == POISON) & (poisoned.origin >= 0)


def beside(poisoned: Poisoned, clean: Dataset) -> Iterator[tuple[slice, Dataset]]:
    """Yields some rows of a poisoned set, and the clean rows that they come from, row by row.

    A copy of all clean rows is never made. Beside a new instance stands the first clean row.
    """
    for rows in row_blocks(poisoned.train):
        origin = poisoned.origin[rows].clamp(min=0)
        yield rows, clean.take(origin)


def redrawn(poisoned: Poisoned, clean: Dataset) -> Tensor:
    """Returns which rows differ from those that they come from, in values or label, (n,) bool."""
    found = torch.zeros_like(poisoned.role, dtype=torch.bool)
    for rows, source in beside(poisoned, clean):
        other = (poisoned.train.x[rows] != source.x).flatten(1).any(1)
        found[rows] = other | (poisoned.train.y[rows] != source.y)
    return found


def _clean_rows(poisoned: Poisoned, clean: Dataset) -> Iterator[PoisonError]:
    """Rows of role 0 are rows of the clean set as they were."""
    is_clean = poisoned.role == CLEAN
    is_new = poisoned.origin < 0
    yield from broken_rows("clean", "a new instance has role 0", is_clean & is_new)
    changed = is_clean & ~is_new & redrawn(poisoned, clean)
    yield from broken_rows("clean", "a clean row was changed", changed)


def _budget(poisoned: Poisoned, n: int, attack: Any) -> Iterator[PoisonError]:
    """Poison and deleted rows are paid for by `budget`, cover rows by `cover`."""
    poison = int((poisoned.role == POISON).sum())
    deleted = n - int((poisoned.origin >= 0).sum())
    limit = count(attack.budget, n)
    if poison + deleted > limit:
        also = f" and {deleted} deleted ones" if deleted else ""
        told = f"{poison} poison rows{also}, {limit} are paid for by budget {attack.budget}"
        yield broken("budget", told)
    cover = int((poisoned.role == COVER).sum())
    share = getattr(attack, "cover", 0.0)
    limit = count(share, n) if share else 0
    if cover > limit:
        told = f"{cover} cover rows, {limit} are paid for by cover {share}"
        yield broken("cover", told)


def _eps(poisoned: Poisoned, clean: Dataset, attack: Any) -> Iterator[PoisonError]:
    """Poison lies within `eps` of the clean row that it is made from."""
    told = f"a pixel is more than eps {attack.eps:g} away from the clean row"
    if clean.kind == "tokens":
        told = f"more than eps {attack.eps:g} words differ from the clean row"
    far = torch.zeros_like(poisoned.role, dtype=torch.bool)
    for rows, source in beside(poisoned, clean):
        distance = _distance(poisoned.train.x[rows], source, attack)
        far[rows] = distance > attack.eps + ROUNDING
    yield from broken_rows("eps", told, _made_from_clean(poisoned) & far)


def _distance(x: Tensor, source: Dataset, attack: Any) -> Tensor:
    """How far each row of x is from its source, (b,): in words, or the largest change of a value.

    A trigger on top does not count.
    """
    if source.kind == "tokens":
        return edits(x, source.x)
    distance = (x - source.x).abs()
    covered = getattr(attack, "covered", None)
    if covered is not None:
        free = covered(source.shape).to(distance.device)
        distance = distance.where(~free, 0)
    return distance.flatten(1).amax(1)


def _targets(poisoned: Poisoned, test: Dataset) -> Iterator[PoisonError]:
    """Attacked points bear the true label, and another one is wanted."""
    labels = poisoned.targets.y
    known = poisoned.target_origin >= 0
    truth = labels.clone()
    truth[known] = test.y[poisoned.target_origin[known]]
    told = "targets.y is not the label of the test point it comes from"
    yield from broken_rows("true-label", told, labels != truth)
    same = poisoned.wanted == labels
    yield from broken_rows("wanted", "the wanted label is the true one", same)
