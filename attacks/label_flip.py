"""Label flips (Biggio, Nelson & Laskov, ACML 2011). Wrong labels only, on unchanged instances.

Pairs of classes: Tolpegin et al. (ESORICS 2020, arXiv 2007.08432).

Cost: O(n) for random and pair; for neighbour one surrogate training and O(n d) distances in its
feature space.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from attacks.kit.aim import attackable, wanted_at
from attacks.kit.rows import check_class, draw, every_row, poison_in_place, rows_of
from attacks.kit.surrogate import surrogate
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_different,
    check_fraction,
)
from poisonbench.contracts.attack_rules import RULES
from poisonbench.contracts.budget import count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.models import predict
from poisonbench.models.head import body_of
from poisonbench.seeding import generator
from poisonbench.training import Recipe

Mode = Literal["random", "pair", "neighbour"]


@dataclass(frozen=True)
class LabelFlip:
    """Changes labels and leaves the instances as they are.

    Attributes:
        mode: "random": any rows to any other class, no test point in particular;
            "pair": rows of class `source` to `target`, against all test points of class `source`;
            "neighbour": the rows next to one test point in the feature space of a surrogate,
            against that point.
        budget: poisoned rows as a fraction of the training set; "neighbour" spends `neighbours`
            rows of it, and `craft` warns where it pays for more.
        source: class of the attacked points; None draws it (pair) or attacks a point of any class
            (neighbour).
        target: the label that the attacker wants; None draws it (pair) or takes the surrogate's
            runner-up (neighbour).
        neighbours: rows flipped by "neighbour".
        surrogate: the recipe of the attacker's model for "neighbour"; None: the victim's (white
            box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    mode: Mode = "random"
    budget: float = 0.05
    source: int | None = None
    target: int | None = None
    neighbours: int = 20
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_fraction("budget", self.budget)
        check_at_least("source", self.source, 0)
        check_at_least("target", self.target, 0)
        check_at_least("neighbours", self.neighbours, 1)
        check_different("source", self.source, "target", self.target)
        if self.mode != "neighbour" and self.surrogate is not None:
            raise ValueError(
                f"mode {self.mode} needs no surrogate, got {self.surrogate}"
            )
        aimed = self.source is not None or self.target is not None
        if self.mode == "random" and aimed:
            got = f"source={self.source}, target={self.target}"
            raise ValueError(f"mode random takes no source or target, got {got}")

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            PoisonError: rule "label", `source` or `target` is no class; rule "budget", it does not
                pay for the neighbours.
            ConfigError: no row can be flipped, or the surrogate classifies no point of class
                `source` rightly.
        """
        check_class("source", self.source, train.classes)
        check_class("target", self.target, train.classes)
        if train.classes < 2:
            rule = "labels can be flipped between two classes or more"
            raise ConfigError([f"{rule}, the data set has 1"])
        if self.mode == "neighbour":
            return self._neighbour(train, test, recipe, seed)
        if self.mode == "pair":
            return self._pair(train, test, seed)
        return self._random(train, test, seed)

    def _random(self, train: Dataset, test: Dataset, seed: int) -> Poisoned:
        rows = draw(every_row(train), self.budget, seed)
        g = generator(seed, "shift")
        shift = torch.randint(1, train.classes, (len(rows),), generator=g)
        shifted = train.y[rows] + shift.to(rows.device)
        flipped = shifted % train.classes
        return poison_in_place(train, test, rows=rows, y=flipped)

    def _pair(self, train: Dataset, test: Dataset, seed: int) -> Poisoned:
        source, target = self._classes(train.classes, seed)
        rows = draw(train.y == source, self.budget, seed)
        points = rows_of(test.y == source)
        return poison_in_place(
            train,
            test,
            rows=rows,
            y=torch.full_like(rows, target),
            points=points,
            wanted=torch.full_like(points, target),
        )

    def _classes(self, classes: int, seed: int) -> tuple[int, int]:
        """Returns source and target; what is left open is drawn."""
        g = generator(seed, "classes")
        order = torch.randperm(classes, generator=g).tolist()
        source = self.source
        if source is None:
            source = next(label for label in order if label != self.target)
        target = self.target
        if target is None:
            target = next(label for label in order if label != source)
        return source, target

    def _neighbour(
        self,
        train: Dataset,
        test: Dataset,
        recipe: Recipe,
        seed: int,
    ) -> Poisoned:
        limit = count(self.budget, len(train))
        if self.neighbours > limit:
            rule = f"neighbours must be at most {limit}"
            pays = f"which budget {self.budget} of {len(train)} rows pays for"
            raise PoisonError(
                "budget", f"{rule}, {pays}, got {self.neighbours}", RULES["budget"]
            )
        model = surrogate(train, self.surrogate, recipe, seed)
        body = body_of(model)
        features = predict(body, test.x)
        logits = predict(model, test.x)
        point = attackable(logits, test.y, self.source, self.target, seed)
        wanted = wanted_at(logits, point, self.target)
        rows = self._nearest(
            predict(body, train.x),
            features[point],
            eligible=train.y != wanted,
        )
        return poison_in_place(
            train,
            test,
            rows=rows,
            y=wanted.expand(len(rows)),
            points=point,
            wanted=wanted,
        )

    def _nearest(self, features: Tensor, point: Tensor, eligible: Tensor) -> Tensor:
        """Returns the rows (k,) nearest to a point among the eligible, ascending.

        Args:
            features: (n, d).
            point: (1, d).
            eligible: (n,) bool.
        """
        distance = (features - point).norm(dim=1).where(eligible, torch.inf)
        k = min(self.neighbours, int(eligible.sum()))
        nearest: Tensor = distance.argsort(stable=True)[:k].sort().values
        return nearest
