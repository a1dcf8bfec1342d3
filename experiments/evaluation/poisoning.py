"""How much of the training set an attack poisoned, beside the budget that the grid asked of it."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    asked: float | None
    poison: int
    cover: int
    rows: int
    clean_rows: int

    @classmethod
    def of(cls, scene: Record) -> "Poisoning":
        """Counts the rows in a log of kind "scene"."""
        role = scene.data[names.POISON_ROLE]
        new = scene.data[names.POISON_ORIGIN] == -1
        budget = scene.config["attack"].get("budget")
        known = isinstance(budget, int | float) and not isinstance(budget, bool)
        return cls(
            asked=float(budget) if known else None,
            poison=int(np.sum(role == POISON)),
            cover=int(np.sum(role == COVER)),
            rows=len(role),
            clean_rows=len(role) - int(np.sum(new)),
        )

    @property
    def share(self) -> float:
        """Poison rows as a fraction of the clean training rows, as the budget is; 0 if there are none."""
        return self.poison / self.clean_rows if self.clean_rows else 0.0

    @property
    def missed(self) -> bool:
        """Whether the rows differ from those asked by one or more; a fraction of a row is rounding."""
        if self.asked is None:
            return False
        return abs(self.poison - self.asked * self.clean_rows) >= 1


def achieved(scenes: Sequence[Poisoning]) -> str:
    """Returns rows and share, such as `12 of 60 rows, 0.20`; a range where the scenes differ."""
    poison = _span([str(scene.poison) for scene in _ascending(scenes)])
    clean = _span(sorted({str(scene.clean_rows) for scene in scenes}, key=int))
    share = _span([f"{scene.share:.2g}" for scene in _ascending(scenes)])
    return f"{poison} of {clean} rows, {share}"


def budget_told(scenes: Sequence[Poisoning]) -> str:
    """Returns the budget asked, and in brackets what was achieved: rows alone where that is equal."""
    if not any(scene.poison for scene in scenes) and not any(scene.asked for scene in scenes):
        return "-"
    asked = _span(list(dict.fromkeys(_asked(scene) for scene in scenes)))
    if asked == "-" or any(scene.missed for scene in scenes):
        return f"{asked} ({achieved(scenes)})"
    poison = _span([str(scene.poison) for scene in _ascending(scenes)])
    return f"{asked} ({poison} rows)"


def _asked(scene: Poisoning) -> str:
    return "-" if scene.asked is None else f"{scene.asked:g}"


def _ascending(scenes: Sequence[Poisoning]) -> list[Poisoning]:
    return sorted(scenes, key=lambda scene: (scene.poison, scene.share))


def _span(texts: Sequence[str]) -> str:
    """The one text, or the first and the last."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
