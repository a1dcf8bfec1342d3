"""Label flips (Biggio, Nelson & Laskov, ACML 2011; pair: Tolpegin et al., ESORICS 2020, arXiv 2007.08432). Wrong labels only.

Cost: O(n) for random and pair; for neighbour one surrogate training and O(n d) distances in its feature space.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from attacks.kit.aim import attackable, runner_up
from attacks.kit.rows import attacked, check_class, draw, nothing, replace
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.attack_rules import RULES, count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError, PoisonError
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe

Mode = Literal["random", "pair", "neighbour"]


@dataclass(frozen=True)
class LabelFlip:
    """Changes labels and leaves the instances as they are.

    Attributes:
        mode: "random": any rows to any other class, no test point in particular;
            "pair": rows of class `source` to `target`, against all test points of class `source`;
            "neighbour": the rows next to one test point in the feature space of a surrogate, against that point.
        budget: poisoned rows as a fraction of the training set; "neighbour" spends `neighbours` rows of it.
        source: class of the attacked points; None draws it (pair) or attacks a point of any class (neighbour).
        target: the label that the attacker wants; None draws it (pair) or takes the surrogate's runner-up (neighbour).
        neighbours: rows flipped by "neighbour".
        surrogate: the recipe of the attacker's model for "neighbour"; None: the victim's (white box).

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
        if self.source is not None and self.source == self.target:
            raise ValueError(f"source and target must differ, got {self.source} for both")
        if self.mode != "neighbour" and self.surrogate is not None:
            raise ValueError(f"mode {self.mode} needs no surrogate, got {self.surrogate}")
        if self.mode == "random" and (self.source, self.target) != (None, None):
            raise ValueError(
                f"mode random takes no source or target, got source={self.source}, target={self.target}"
            )

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            PoisonError: rule "label", `source` or `target` is no class; rule "budget", it does not pay for the neighbours.
            ConfigError: no row can be flipped, or the surrogate classifies no point of class `source` rightly.
        """
        check_class("source", self.source, train.classes)
        check_class("target", self.target, train.classes)
        if train.classes < 2:
            raise ConfigError(
                ["labels can be flipped between two classes or more, the data set has 1"]
            )
        if self.mode == "neighbour":
            return self._neighbour(train, test, recipe, seed)
        return (
            self._pair(train, test, seed)
            if self.mode == "pair"
            else self._random(train, test, seed)
        )

    def _random(self, train: Dataset, test: Dataset, seed: int) -> Poisoned:
        rows = draw(train.y >= 0, self.budget, seed)
        shift = torch.randint(
            1, train.classes, (len(rows),), generator=generator(seed, "shift")
        ).to(rows.device)
        flipped = (train.y[rows] + shift) % train.classes
        points = nothing(test)
        return Poisoned(
            *replace(train, rows, train.x[rows], flipped), *attacked(test, points, points)
        )

    def _pair(self, train: Dataset, test: Dataset, seed: int) -> Poisoned:
        order = torch.randperm(train.classes, generator=generator(seed, "classes")).tolist()
        source = next(c for c in order if c != self.target) if self.source is None else self.source
        target = next(c for c in order if c != source) if self.target is None else self.target
        rows = draw(train.y == source, self.budget, seed)
        points = (test.y == source).nonzero().squeeze(1)
        return Poisoned(
            *replace(train, rows, train.x[rows], torch.full_like(rows, target)),
            *attacked(test, points, torch.full_like(points, target)),
        )

    def _neighbour(self, clean: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        if self.neighbours > (limit := count(self.budget, len(clean))):
            what = f"neighbours must be at most {limit}, which budget {self.budget} of {len(clean)} rows pays for"
            raise PoisonError("budget", f"{what}, got {self.neighbours}", RULES["budget"])
        model = surrogate(clean, self.surrogate, recipe, seed)
        features = predict(model.get_submodule("features"), test.x)
        logits = predict(model.get_submodule("head"), features)
        point = attackable(logits, test.y, self.source, self.target, seed)
        wanted = (
            runner_up(logits, point) if self.target is None else torch.full_like(point, self.target)
        )
        rows = self._nearest(
            predict(model.get_submodule("features"), clean.x), features[point], clean.y != wanted
        )
        return Poisoned(
            *replace(clean, rows, clean.x[rows], wanted.expand(len(rows))),
            *attacked(test, point, wanted),
        )

    def _nearest(self, features: Tensor, point: Tensor, eligible: Tensor) -> Tensor:
        """Returns the rows (k,) of features (n, d) nearest to point (1, d) among the eligible (n,) bool, ascending."""
        distance = (features - point).norm(dim=1).where(eligible, torch.inf)
        k = min(self.neighbours, int(eligible.sum()))
        nearest: Tensor = distance.argsort(stable=True)[:k].sort().values
        return nearest
