"""Generic poison: what a defender plants in a copy of its own training set, in order to learn.

It is no attack under study: it knows nothing of the poison that may be there already, and is drawn
by a seed alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.seeding import generator

# (k, *shape) -> (k, *shape), row by row, without changing its argument
Change = Callable[[Tensor], Tensor]
LEAST = 30  # poison rows of a small training set,
MOST_OF_FEW = 0.05  # but no more than this share of it
MOST_OF_A_CLASS = 0.8  # of the rows of its class that clean-label poison may take


@dataclass(frozen=True, eq=False)
class Trigger:
    """What is done to instances.

    Attributes:
        shown: to a point that attacks.
        pieces: to poison rows, dealt out evenly, where they show less; none: as `shown`.
    """

    shown: Change
    pieces: tuple[Change, ...] = ()

    def planted(self, x: Tensor) -> Tensor:
        """Returns the poison rows made of x, (k, *shape)."""
        if not self.pieces:
            return self.shown(x)
        count = len(self.pieces)
        made = x.clone()
        for place, piece in enumerate(self.pieces):
            made[place::count] = piece(x[place::count])
        return made


# (training set, its own random stream) -> a trigger; None where the instances are too small
Draw = Callable[[Dataset, torch.Generator], Trigger | None]


@dataclass(frozen=True)
class GenericPoison:
    """A family of poison, of which every seed draws another member.

    Attributes:
        family: its name.
        draw: a trigger for a training set.
        share: poison rows as a fraction of the training set.
        clean_label: rows of the target class get the trigger, and keep their label.
        source: one class alone is poisoned and attacked, and as many rows of other classes get the
            trigger and keep their labels.
    """

    family: str
    draw: Draw
    share: float = 0.03
    clean_label: bool = False
    source: bool = False


@dataclass(frozen=True, eq=False)
class Plant:
    """A poison that was planted.

    Attributes:
        family: its name.
        trigger: that was drawn.
        target: the label that its points are to get.
        source: the one label that is attacked; None for all but the target.
        rows: (k,) int64, the poison rows.
        cover: (c,) int64, the rows with the trigger and their own labels.
    """

    family: str
    trigger: Trigger
    target: int
    source: int | None
    rows: Tensor
    cover: Tensor

    def attacks(self, labels: Tensor) -> Tensor:
        """Returns which points of these labels, (k,), it attacks: (k,) bool."""
        if self.source is not None:
            return labels == self.source
        return labels != self.target


@dataclass(frozen=True, eq=False)
class Planted:
    """A training set with several poisons.

    Attributes:
        train: n rows, as many as before and in their order.
        plants: the poisons.
    """

    train: Dataset
    plants: tuple[Plant, ...]


def plant(
    train: Dataset,
    poisons: tuple[GenericPoison, ...],
    leave_out: tuple[str, ...],
    source: int,
    seed: int,
) -> Planted:
    """Plants several poisons in a training set, each with a target and rows of its own.

    Targets are dealt out in random order; where there are more poisons than classes some share one.
    A poison that does not fit the data is left out, and the others are the same with it and
    without.

    Args:
        train: n rows, which may be poisoned already.
        poisons: families that have a meaning for the data.
        leave_out: families that are not planted.
        source: the class that poison of one source takes; its target is another one.
        seed: of all draws.
    """
    order = torch.randperm(train.classes, generator=generator(seed, "targets"))
    free = torch.ones(len(train), dtype=torch.bool)
    x = train.x.clone()
    y = train.y.clone()
    plants = []
    for place, poison in enumerate(poisons):
        target = int(order[place % train.classes])
        if poison.source and target == source:
            target = (source + 1) % train.classes
        trigger = poison.draw(train, generator(seed, poison.family))
        if poison.family in leave_out or trigger is None:
            continue
        from_class = source if poison.source else None
        rows, cover = _rows(train, poison, target, from_class, free, seed)
        if not len(rows):
            continue
        laid = torch.cat([rows, cover])
        free[laid] = False
        x[rows] = trigger.planted(train.x[rows])
        x[cover] = trigger.shown(train.x[cover])
        y[rows] = target
        plants.append(
            Plant(
                family=poison.family,
                trigger=trigger,
                target=target,
                source=from_class,
                rows=rows,
                cover=cover,
            )
        )
    return Planted(train.rows(x, y), tuple(plants))


def _rows(
    train: Dataset,
    poison: GenericPoison,
    target: int,
    source: int | None,
    free: Tensor,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Draws the poison rows and the cover rows among those that are free."""
    labels = train.y.cpu()
    least = min(LEAST, round(MOST_OF_FEW * len(train)))
    count = max(1, least, round(poison.share * len(train)))
    eligible = labels != target
    if poison.clean_label:
        eligible = labels == target
        count = min(count, int(MOST_OF_A_CLASS * int(eligible.sum())))
    if source is not None:
        eligible = labels == source
    g = generator(seed, poison.family, "rows")
    rows = _drawn(eligible & free, count, g)
    if source is None:
        return rows, rows[:0]
    others = (labels != source) & (labels != target)
    return rows, _drawn(others & free, count, g)


def _drawn(eligible: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Draws at most `count` of the rows, (k,) int64, ascending."""
    rows = eligible.nonzero().squeeze(1)
    order = torch.randperm(len(rows), generator=g)
    return rows[order[:count]].sort().values
