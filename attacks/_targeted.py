"""What attacks on one test point share: the attacker's models, the point and the rows that attack it, and descent with Adam."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import trange

from attacks._common import check_at_least, check_class, check_fraction, draw
from attacks._craft import project, surrogate
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.notes import attach
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, exact_arithmetic, predict

Objective = Callable[[Tensor, int], Tensor]  # poison (k, *shape), step -> scalar


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
        raise ConfigError(["a test point can be attacked between two classes or more, the data set has 1"])
    models = ensemble(attack, train, recipe, seed)
    logits = torch.stack([predict(model, test.x) for model in models]).mean(0)
    point = attackable(logits, test.y, attack.source, attack.target, seed)
    wanted = runner_up(logits, point) if attack.target is None else torch.full_like(point, attack.target)
    return Aim(models, point, wanted, draw(train.y == wanted, attack.budget, seed))


def ensemble(attack: Targeted, train: Dataset, recipe: Recipe, seed: int) -> list[nn.Module]:
    """Returns the attacker's models; where the victim's frozen features are known, one is all that there are."""
    frozen = attack.surrogate is None and recipe.start is not None and recipe.start.trained == "head"
    return [surrogate(train, attack.surrogate, recipe, seed, k) for k in range(1 if frozen else attack.surrogates)]


def attackable(logits: Tensor, y: Tensor, source: int | None, target: int | None, seed: int) -> Tensor:
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


def steps_of(count: int, what: str) -> Iterator[int]:
    """Counts steps of a long optimisation, with a bar on a terminal."""
    yield from trange(count, desc=what, unit="step", leave=False, disable=None)


def adam_descent(
    objective: Objective,
    clean: Tensor,
    *,
    eps: float,
    steps: int,
    lr: float,
    signed: bool = False,
    start: Tensor | None = None,
    what: str = "crafting",
) -> tuple[Tensor, Tensor]:
    """Projected descent with Adam inside the max-norm ball around the clean rows and [0, 1].

    Args:
        objective: of the poison (k, *shape) and the step, to be made small; a scalar.
        clean: (k, *shape), the centres of the balls.
        eps: radius in the max norm.
        steps: number of steps.
        lr: learning rate, about the length of a step in pixel values; a tenth after 3/8, 5/8 and 7/8 of the steps if `signed`.
        signed: Adam sees the signs of the gradient alone (signed Adam, Geiping et al. 2021).
        start: (k, *shape) where to begin; None for `clean`.
        what: the bar's title.

    Returns:
        The poison, and the objective before every step, (steps,).
    """
    x = project(clean if start is None else start, clean, eps).detach().requires_grad_()
    adam, curve = torch.optim.Adam([x], lr=lr), clean.new_zeros(steps)
    milestones = [steps * k // 8 for k in (3, 5, 7)] if signed else []
    decay = torch.optim.lr_scheduler.MultiStepLR(adam, milestones, 0.1)
    with exact_arithmetic():
        for t in steps_of(steps, what):
            with torch.enable_grad():
                value = objective(x, t)
                (x.grad,) = torch.autograd.grad(value, x)
            curve[t] = value.detach()
            if signed:
                x.grad.sign_()
            adam.step()
            decay.step()
            with torch.no_grad():
                x.copy_(project(x, clean, eps))
    return x.detach(), curve


def restarted(run: Callable[[int], tuple[Tensor, Tensor]], restarts: int) -> Tensor:
    """Returns the poison of the best of several runs, by the mean of the last tenth of its objective; all curves are logged."""
    found = [run(k) for k in range(restarts)]
    curves = torch.stack([curve for _, curve in found])
    attach("objective", curves)
    tail = curves[:, -max(1, curves.shape[1] // 10) :].mean(1)
    return found[int(tail.argmin())][0]


def noise_in_ball(clean: Tensor, eps: float, seed: int, restart: int) -> Tensor:
    """Returns points drawn uniformly from the balls around `clean`, (k, *shape), and clamped to [0, 1]."""
    noise = torch.rand(clean.shape, generator=generator(derive(seed, "restart", restart), "noise"), dtype=torch.float32)
    return project(clean + eps * (2 * noise.to(clean) - 1), clean, eps)
