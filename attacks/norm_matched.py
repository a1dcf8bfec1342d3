"""Norm-matched, adaptive against influence: patched rows whose gradients are as long as others'.

Mislabelled rows have long gradients, and so much raw influence. A perturbation within eps brings
each towards the median of the class that it is labelled as, by a penalty, and keeps the gradients
pointing where the backdoor needs them.

Cost: `rounds` surrogates, and `steps` second derivatives of the poison's loss at each of six ages
in each round; O(k p) memory for k rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import dirty_label
from attacks.kit.descent import adam_descent
from attacks.kit.gradient_matching import gradients_of, wanted_gradient
from attacks.kit.rows import check_class, draw, every_row, rows_of
from attacks.kit.square import Place, StampingOnTop
from attacks.kit.surrogate import own_recipe
from poisonbench import training
from poisonbench.checks import check_at_least, check_fraction, check_positive
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.gradients.products import gradient_norms
from poisonbench.gradients.selection import Form
from poisonbench.notes import attach
from poisonbench.roles import POISON
from poisonbench.seeding import derive
from poisonbench.training import Recipe
from poisonbench.training.trace import Trace

WISHES = 256  # patched rows whose gradient is wanted, drawn at each training
AGES = 6  # of the surrogate, evenly over its training, at which the norms are matched


@dataclass(frozen=True)
class NormMatched(StampingOnTop):
    """Stamps a square on rows of other classes, labelled `target`, with ordinary gradient norms.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; the
            square lies on top.
        weight: of the penalty, beside the cosine that keeps the poison's gradients those of a
            backdoor.
        rounds: of training the attacker's model on the poison so far, and matching the norms at six
            of its ages.
        steps: of Adam, in a round.
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`, but not "random".
        value: of the square's pixels, in all channels.
        surrogate: the recipe of the attacker's model; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    target: int = 0
    budget: float = 0.01
    eps: float = 0.1
    weight: float = 0.1
    rounds: int = 2
    steps: int = 60
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("eps", self.eps)
        check_positive("weight", self.weight)
        check_at_least("rounds", self.rounds, 1)
        check_at_least("steps", self.steps, 1)
        self.check_square()

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or all of class `target`.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        check_class("target", self.target, train.classes)
        stamped = self._backdoor(train, test, seed)
        # the ages are the attack's own: a log may keep any number of the victim's
        own = replace(own_recipe(self.surrogate, recipe), checkpoints=AGES)
        rows = rows_of(stamped.role == POISON)
        clean = train.x[rows]
        moved = stamped.train.x[rows]
        curves = []
        for k in range(self.rounds):
            data = replace(stamped.train, x=train.x.index_copy(0, rows, moved))
            trace = training.train(data, own, derive(seed, "surrogate", k))
            moved, curve = adam_descent(
                _Objective(trace, rows, self),
                clean,
                eps=self.eps,
                steps=self.steps,
                lr=self.eps / 10,
                start=moved,
                what="matching norms",
            )
            moved = self.trigger(moved)
            curves.append(curve)
        attach("objective", torch.stack(curves))
        return self._backdoor(train, test, seed, poison=lambda _: moved)

    def _backdoor(
        self,
        train: Dataset,
        test: Dataset,
        seed: int,
        poison: Callable[[Tensor], Tensor] | None = None,
    ) -> Poisoned:
        return dirty_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=poison,
        )


@dataclass(frozen=True, eq=False)
class _Age:
    """The surrogate at one of its ages.

    Attributes:
        model: in evaluation mode.
        goal: (p,), the gradient that the backdoor needs, of norm 1.
        median: the median gradient norm of the honest rows of the target class, a scalar.
        weight: share of the ages' learning rates, as in TracIn.
    """

    model: nn.Module
    goal: Tensor
    median: Tensor
    weight: float


class _Objective:
    """How far the poison's gradient is turned from what the backdoor needs, and how long it is.

    At every age, weighted by its learning rate as in TracIn: 1 - cos(mean gradient of the poison,
    gradient of patched rows with the wanted label) + weight x mean |log(gradient norm / median)|.

    Args:
        trace: of the surrogate, on the poison so far.
        rows: (k,) int64, the poisoned ones.
        attack: its fields.
    """

    def __init__(self, trace: Trace, rows: Tensor, attack: NormMatched) -> None:
        data = trace.train
        self.attack = attack
        self.y = data.y[rows]
        self.form = Form(loss=trace.loss)
        honest = every_row(data).index_fill(0, rows, False)
        wish = self._wish(data, rows, honest, trace.seed)
        own = honest & (data.y == attack.target)
        peers = data.take(own) if bool(own.any()) else data
        rates = torch.tensor([checkpoint.lr for checkpoint in trace.checkpoints])
        weights = (rates / rates.sum()).tolist()
        self.ages = [
            _age(trace.model(k), wish, peers, weight, self.form)
            for k, weight in enumerate(weights)
        ]

    def _wish(self, data: Dataset, rows: Tensor, honest: Tensor, seed: int) -> Dataset:
        """Returns patched rows of other classes with the wanted label; else the poison."""
        others = honest & (data.y != self.attack.target)
        if bool(others.any()):
            rows = draw(others, WISHES / len(data), seed, "wanted rows")
        chosen = data.take(rows)
        labels = torch.full_like(chosen.y, self.attack.target)
        return chosen.rows(self.attack.trigger(chosen.x), labels)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        """Returns the objective of the rows x, (k, *shape), with the square on top; a scalar."""
        stamped = self.attack.trigger(x)
        parts = [age.weight * self._at(age, stamped) for age in self.ages]
        return torch.stack(parts).sum()

    def _at(self, age: _Age, stamped: Tensor) -> Tensor:
        tiny = torch.finfo(stamped.dtype).tiny
        gradients = gradients_of(age.model, stamped, self.y, self.form.loss)
        norms = torch.linalg.vector_norm(gradients, dim=1).clamp(min=tiny)
        mean = gradients.mean(0)
        length = torch.linalg.vector_norm(mean).clamp(min=tiny)
        aside = 1 - (mean @ age.goal) / length
        median = age.median.clamp(min=tiny)
        penalty = (norms.log() - median.log()).abs().mean()
        return aside + self.attack.weight * penalty  # type: ignore[no-any-return]


def _age(
    model: nn.Module,
    wish: Dataset,
    peers: Dataset,
    weight: float,
    form: Form,
) -> _Age:
    goal = torch.cat([g.flatten() for g in wanted_gradient(model, wish)])
    median = gradient_norms(model, peers, form).median()
    return _Age(model=model, goal=goal, median=median, weight=weight)
