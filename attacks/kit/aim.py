"""What attacks on one test point share: their fields, the attacker's models, point and rows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.kit.rows import check_class, draw
from attacks.kit.surrogate import surrogates
from poisonbench.checks import check_at_least, check_different, check_fraction
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe


class OnePoint:
    """The seven fields that attacks on one test point share; each attack spells them out.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set; all are of the wanted class.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; None for
            attacks that may do without.
        steps: of the optimisation.
        surrogate: the recipe of the attacker's models; None for the victim's (white box), with its
            pretrained features in transfer.
        surrogates: number of the attacker's models.
    """

    source: int | None
    target: int | None
    budget: float
    eps: float | None
    steps: int
    surrogate: Recipe | None
    surrogates: int

    def check_one_point(self) -> None:
        """Raises ValueError unless the seven fields are in their ranges."""
        check_at_least("source", self.source, 0)
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        if self.eps is not None:
            check_fraction("eps", self.eps)
        check_at_least("steps", self.steps, 1)
        check_at_least("surrogates", self.surrogates, 1)
        check_different("source", self.source, "target", self.target)


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


def take_aim(
    attack: OnePoint,
    train: Dataset,
    test: Dataset,
    recipe: Recipe,
    seed: int,
) -> Aim:
    """Trains the attacker's models on the clean set, draws the test point and the rows to change.

    Raises:
        PoisonError: rule "label", `source` or `target` is no class.
        ConfigError: the models classify no point of class `source` rightly, or the wanted class has
            no row.
    """
    check_class("source", attack.source, train.classes)
    check_class("target", attack.target, train.classes)
    if train.classes < 2:
        rule = "a test point can be attacked between two classes or more"
        raise ConfigError([f"{rule}, the data set has 1"])
    models = ensemble(attack, train, recipe, seed)
    predictions = [predict(model, test.x) for model in models]
    logits = torch.stack(predictions).mean(0)
    point = attackable(logits, test.y, attack.source, attack.target, seed)
    wanted = wanted_at(logits, point, attack.target)
    rows = draw(train.y == wanted, attack.budget, seed)
    return Aim(models=models, point=point, wanted=wanted, rows=rows)


def ensemble(
    attack: OnePoint,
    train: Dataset,
    recipe: Recipe,
    seed: int,
) -> list[nn.Module]:
    """Returns the attacker's models; where the victim's frozen features are known, there is one."""
    number = attack.surrogates
    frozen = recipe.start is not None and recipe.start.trained == "head"
    if attack.surrogate is None and frozen:
        number = 1
    return surrogates(train, attack.surrogate, recipe, seed, number)


def attackable(
    logits: Tensor,
    y: Tensor,
    source: int | None,
    target: int | None,
    seed: int,
) -> Tensor:
    """Draws the point to attack, (1,) int64, where logits (m, C) are right for the labels y, (m,).

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
        raise ConfigError(
            [what], "choose another `source`, or a recipe that trains longer"
        )
    pick = torch.randint(len(points), (1,), generator=generator(seed, "point"))
    return points[pick.to(points.device)]


def wanted_at(logits: Tensor, point: Tensor, target: int | None) -> Tensor:
    """Returns (1,) int64: `target`, or where it is None the label after the right one at `point`.

    Args:
        logits: (m, C).
        point: (1,) int64, a row where the first label is right: the second is the nearest wrong.
        target: the label that the attacker wants; None for the runner-up.
    """
    if target is None:
        return logits[point].topk(2, 1).indices[:, 1]
    return torch.full_like(point, target)
