"""How much of the training set an attack poisoned, beside the budget that the grid asked of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poisonbench.log import Record, names
from poisonbench.roles import COVER, POISON


@dataclass(frozen=True)
class Poisoning:
    """The poison of one scene, counted in the ground truth of its log.

    Attributes:
        asked: the budget, a fraction of the clean training rows; None if the attack has none.
        poison: poison rows.
        cover: cover rows, planted with their true label.
        rows: training rows, with the poison.
        clean_rows: training rows before the attack.
        deleted: of these, rows that the attack left out: the budget pays for them, too.
    """

    asked: float | None
    poison: int
    cover: int
    rows: int
    clean_rows: int
    deleted: int = 0

    @classmethod
    def of(cls, scene: Record) -> "Poisoning":
        """Counts the rows in a log of kind "scene"."""
        role = scene.data[names.POISON_ROLE]
        kept = scene.data[names.POISON_ORIGIN] != -1
        deleted = _deleted(scene)
        return cls(
            asked=_budget(scene.config["attack"]),
            poison=int(np.sum(role == POISON)),
            cover=int(np.sum(role == COVER)),
            rows=len(role),
            clean_rows=int(np.sum(kept)) + deleted,
            deleted=deleted,
        )

    @property
    def share(self) -> float:
        """Poison rows as a fraction of the clean training rows, as the budget is."""
        if not self.clean_rows:
            return 0.0
        return self.poison / self.clean_rows

    @property
    def missed(self) -> bool:
        """Whether the rows differ from those asked by one or more; less is rounding."""
        if self.asked is None:
            return False
        paid_for = self.asked * self.clean_rows
        spent = self.poison + self.deleted
        return abs(spent - paid_for) >= 1


def _deleted(scene: Record) -> int:
    """Clean rows that the attack left out; none where an earlier version did not log them."""
    value = scene.attributes.get(names.DELETED_ROWS)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(0, value)


def _budget(attack: Mapping[str, Any]) -> float | None:
    budget = attack.get("budget")
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        return None
    return float(budget)


def achieved(scenes: Sequence[Poisoning]) -> str:
    """Returns rows and share, such as `12 of 60 rows, 0.20`; a range where the scenes differ."""
    poison = _span([scene.poison for scene in scenes], "d")
    clean = _span([scene.clean_rows for scene in scenes], "d")
    share = _span([scene.share for scene in scenes], ".2g")
    return f"{poison} of {clean} rows, {share}"


def budget_told(scenes: Sequence[Poisoning]) -> str:
    """Returns the budget asked and what was achieved: rows alone where these are equal."""
    nothing = all(scene.asked is None and scene.poison == 0 for scene in scenes)
    if nothing:
        return "-"
    budgets = [scene.asked for scene in scenes if scene.asked is not None]
    missed = any(scene.missed for scene in scenes)
    asked = _span(budgets, "g") if budgets else "-"
    if missed or not budgets:
        return f"{asked} ({achieved(scenes)})"
    poison = _span([scene.poison for scene in scenes], "d")
    return f"{asked} ({poison} rows)"


def _span(values: Sequence[float], form: str) -> str:
    """The one value, or the least and the largest."""
    least = format(min(values), form)
    largest = format(max(values), form)
    if least == largest:
        return least
    return f"{least} to {largest}"
