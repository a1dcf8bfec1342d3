"""What attacks on one test point share: the attacker's models, the point and the rows that attack it, and descent with Adam."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from attacks.kit.rows import check_class, draw
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe


class Targeted(Protocol):
    """The fields that attacks on one test point have in common."""

    @property
    def source(self) -> int | None:
        """Class of the attacked point; None for any."""

    @property
    def target(self) -> int | None:
        """The label that the attacker wants; None for the surrogates' runner-up."""

    @property
    def budget(self) -> float:
        """Poisoned rows as a fraction of the training set."""

    @property
    def eps(self) -> float | None:
        """Radius of the max-norm ball around the clean rows, where there is one."""

    @property
    def surrogate(self) -> Recipe | None:
        """The recipe of the attacker's models; None for the victim's."""

    @property
    def surrogates(self) -> int:
        """Number of the attacker's models."""


def check_targeted(attack: Targeted, *counts: str) -> None:
    """Raises ValueError unless the fields that these attacks have in common, and the `counts` from 1 on, are in their ranges."""
    check_at_least("source", attack.source, 0)
    check_at_least("target", attack.target, 0)
    check_fraction("budget", attack.budget)
    if attack.eps is not None:
        check_fraction("eps", attack.eps)
    for name in ("steps", "surrogates", *counts):
        check_at_least(name, getattr(attack, name), 1)
    if attack.source is not None and attack.source == attack.target:
        raise ValueError(f"source and target must differ, got {attack.source} for both")


@dataclass(frozen=True, eq=False)
class Aim:
    """What is attacked, and with what.

    Attributes:
        models: the attacker's, in evaluation mode.
        point: (1,) int64, the row of the test set.
        wanted: (1,) int64, the label that the attacker wants there.
        rows: (k,) int64, the training rows to be changed, of the wanted class, ascending.
    """

    models: list[nn.Module]
    point: Tensor
    wanted: Tensor
    rows: Tensor


def take_aim(attack: Targeted, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Aim:
    """Trains the attacker's models on the clean set, draws the test point and the rows of the wanted class.

    Raises:
        PoisonError: rule "label", `source` or `target` is no class.
        ConfigError: the models classify no point of class `source` rightly, or the wanted class has no row.
    """
    check_class("source", attack.source, train.classes)
    check_class("target", attack.target, train.classes)
    if train.classes < 2:
        raise ConfigError(
            ["a test point can be attacked between two classes or more, the data set has 1"]
        )
    models = ensemble(attack, train, recipe, seed)
    logits = torch.stack([predict(model, test.x) for model in models]).mean(0)
    point = attackable(logits, test.y, attack.source, attack.target, seed)
    wanted = (
        runner_up(logits, point) if attack.target is None else torch.full_like(point, attack.target)
    )
    return Aim(models, point, wanted, draw(train.y == wanted, attack.budget, seed))


def ensemble(attack: Targeted, train: Dataset, recipe: Recipe, seed: int) -> list[nn.Module]:
    """Returns the attacker's models; where the victim's frozen features are known, one is all that there are."""
    frozen = (
        attack.surrogate is None and recipe.start is not None and recipe.start.trained == "head"
    )
    return [
        surrogate(train, attack.surrogate, recipe, seed, k)
        for k in range(1 if frozen else attack.surrogates)
    ]


def attackable(
    logits: Tensor, y: Tensor, source: int | None, target: int | None, seed: int
) -> Tensor:
    """Draws the one point to attack, (1,) int64, among those with logits (m, C) right for their labels y, (m,).

    Raises:
        ConfigError: there is none.
    """
    eligible = logits.argmax(1) == y
    if source is not None:
        eligible &= y == source
    if target is not None:
        eligible &= y != target
    points = eligible.nonzero().squeeze(1)
    if not len(points):
        what = "no test point to attack: the surrogate classifies none of the class rightly"
        raise ConfigError([what], "choose another `source`, or a recipe that trains longer")
    pick = torch.randint(len(points), (1,), generator=generator(seed, "point"))
    return points[pick.to(points.device)]


def runner_up(logits: Tensor, point: Tensor) -> Tensor:
    """Returns (1,) int64: the second label at a point, (1,), where the first is right: the nearest wrong one."""
    return logits[point].topk(2, 1).indices[:, 1]
