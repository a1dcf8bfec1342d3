"""Bullseye Polytope (Aghakhani et al., EuroS&P 2021, arXiv 2005.00191). Poisons surround a point.

Their mean feature meets the attacked point's. Option: the convex polytope of Zhu et al. (ICML 2019,
arXiv 1905.05897), whose poisons only have to surround the point. Published implementations take
eps .1 and 4,000 steps.

Needs: transfer, a victim with (nearly) the attacker's features.

Cost: the surrogates, `steps` backward passes over the poison.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.kit.aim import OnePoint, take_aim
from attacks.kit.descent import Objective, adam_descent
from attacks.kit.rows import poison_in_place
from poisonbench.checks import check_positive
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models.head import body_of
from poisonbench.notes import attach, note
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe


@dataclass(frozen=True)
class Bullseye(OnePoint):
    """Moves rows of the wanted class within eps to surround one test point, the mean at its place.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of Adam.
        lr: learning rate of Adam.
        polytope: the convex polytope: any convex combination of the poisons may meet the point,
            another in each net.
        surrogate: the recipe of the attacker's models; None: the victim's (white box), with its
            pretrained features in transfer.
        surrogates: number of the attacker's models; the features of all are met at once.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True

    source: int | None = None
    target: int | None = None
    budget: float = 0.01
    eps: float = 8 / 255
    steps: int = 1200
    lr: float = 0.04
    polytope: bool = False
    surrogate: Recipe | None = None
    surrogates: int = 1

    def __post_init__(self) -> None:
        self.check_one_point()
        check_positive("lr", self.lr)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, or there is no point or row of a class it
                needs.
            PoisonError: rule "label", `source` or `target` is no class.
        """
        check_kind(train, self)
        aim = take_aim(self, train, test, recipe, seed)
        bodies = [body_of(model) for model in aim.models]
        with torch.no_grad(), exact_arithmetic():
            goals = [body(test.x[aim.point]) for body in bodies]
        poison, curve = adam_descent(
            self._objective(bodies, goals),
            train.x[aim.rows],
            eps=self.eps,
            steps=self.steps,
            lr=self.lr,
            what="bullseye polytope",
        )
        attach("objective", curve[None])
        note("objective_first", float(curve[0]))
        note("objective_last", float(curve[-1]))
        return poison_in_place(
            train,
            test,
            rows=aim.rows,
            x=poison,
            points=aim.point,
            wanted=aim.wanted,
        )

    def _objective(self, bodies: list[nn.Module], goals: list[Tensor]) -> Objective:
        if self.polytope:
            return Polytope(bodies, goals)
        return partial(distance_of_mean, bodies, goals)


def relative_distance(meeting: Tensor, goal: Tensor) -> Tensor:
    """Returns |meeting - goal|^2 / |goal|^2, a scalar, for features (d,)."""
    return (meeting - goal).square().sum() / goal.square().sum()


def distance_of_mean(
    bodies: list[nn.Module],
    goals: list[Tensor],
    x: Tensor,
    step: int = 0,
) -> Tensor:
    """Returns equation (3), a scalar.

    Half the mean over the nets of |mean_j f(x_j) - f(t)|^2 / |f(t)|^2.

    Args:
        bodies: feature nets f.
        goals: f(t) of each, (1, d).
        x: (k, *shape), the poisons x_j.
        step: of the optimisation; without effect here.
    """
    parts = [
        relative_distance(body(x).mean(0), goal[0])
        for body, goal in zip(bodies, goals, strict=True)
    ]
    return torch.stack(parts).mean() / 2


class Polytope:
    """The objective of the convex polytope.

    Its coefficients, one set per net, are solved anew from the last at every step.

    Args:
        bodies: feature nets f.
        goals: f(t) of each, (1, d).
        inner: steps of the solver for the coefficients.
    """

    def __init__(
        self, bodies: list[nn.Module], goals: list[Tensor], inner: int = 50
    ) -> None:
        self.bodies = bodies
        self.goals = goals
        self.inner = inner
        self.coefficients: list[Tensor | None] = [None] * len(bodies)

    def __call__(self, x: Tensor, step: int = 0) -> Tensor:
        """Returns equation (2) of Zhu et al., a scalar.

        Half the mean over the nets of |sum_j c_j f(x_j) - f(t)|^2 / |f(t)|^2.
        """
        parts = []
        for i, body in enumerate(self.bodies):
            goal = self.goals[i][0]
            features = body(x)
            last = self.coefficients[i]
            c = nearest_combination(features.detach(), goal, last, self.inner)
            self.coefficients[i] = c
            parts.append(relative_distance(c @ features, goal))
        return torch.stack(parts).mean() / 2


def nearest_combination(
    features: Tensor,
    goal: Tensor,
    start: Tensor | None = None,
    steps: int = 50,
) -> Tensor:
    """Returns c (k,), on the simplex, that makes |c @ features - goal|^2 small.

    By projected gradient descent (algorithm 1 of Zhu et al.).

    Args:
        features: (k, d).
        goal: (d,).
        start: (k,) on the simplex; None for the mean.
        steps: each of 1 / the largest eigenvalue, so that none overshoots.
    """
    k = len(features)
    c = start
    if c is None:
        c = features.new_full((k,), 1 / k)
    gram = features @ features.T
    along = features @ goal
    largest = torch.linalg.matrix_norm(gram, 2)
    rate = 1 / largest.clamp(min=torch.finfo(gram.dtype).tiny)
    for _ in range(steps):
        slope = gram @ c - along
        c = onto_simplex(c - rate * slope)
    return c


def onto_simplex(v: Tensor) -> Tensor:
    """Returns the point of the probability simplex nearest to v, (k,) (Duchi et al., ICML 2008)."""
    ordered = v.sort(descending=True).values
    position = torch.ones_like(v).cumsum(0)
    excess = (ordered.cumsum(0) - 1) / position
    kept = (ordered > excess).sum()
    threshold = excess.gather(0, kept[None] - 1)
    return (v - threshold).clamp(min=0)
