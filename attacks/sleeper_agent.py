"""Sleeper Agent (Souri et al., NeurIPS 2022, arXiv 2106.08970). A backdoor by gradient matching: no row shows the trigger.

The poison's gradient is turned towards that of patched source images with the wanted label; the attacker's model is retrained
on the way, and the rows are those with the largest gradients. Made for victims trained from scratch.

Cost: the surrogates, 1 + `retrain` times, and `steps` second derivatives of the poison's loss.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import check_classes, check_images, wanted
from attacks.kit.descent import adam_descent, noise_in_ball
from attacks.kit.gradient_matching import Augmentation, misalignment, shifting, wanted_gradient
from attacks.kit.rows import attacked, check_class, draw, replace
from attacks.kit.square import Place, Stamping
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.attack_rules import count
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.gradients.products import gradient_norms
from poisonbench.notes import attach
from poisonbench.seeding import derive
from poisonbench.training import Recipe

Selection = Literal["norm", "random"]


@dataclass(frozen=True)
class SleeperAgent(Stamping):
    """Changes rows of class `target` within eps so that training on them lowers the loss of `target` on patched source images.

    Attributes:
        target: the label t that the attacker wants.
        source: the class that is attacked with the patch; None for all but the target.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of signed Adam.
        step: its learning rate as a fraction of eps.
        retrain: how often the attacker's models are trained anew on the poison so far, evenly over the steps.
        select: "norm": the rows of the target class with the largest gradients; "random".
        augment: of the poison while it is crafted, differentiable, for victims that augment: "shift", "shift-flip"; or "none".
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`; the paper's is "random".
        value: of the square's pixels, in all channels.
        surrogate: the recipe of the attacker's models; None: the victim's (white box).
        surrogates: number of the attacker's models; the mean objective over all is lowered.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    clean_label = True

    target: int = 0
    source: int | None = 1
    budget: float = 0.01
    eps: float = 16 / 255
    steps: int = 250
    step: float = 0.1
    retrain: int = 4
    select: Selection = "norm"
    augment: Augmentation = "none"
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    surrogate: Recipe | None = None
    surrogates: int = 1

    def __post_init__(self) -> None:
        check_classes(self.target, self.source)
        for name in ("budget", "eps", "step"):
            check_fraction(name, getattr(self, name))
        for name, least in (("steps", 1), ("retrain", 0), ("surrogates", 1)):
            check_at_least(name, getattr(self, name), least)
        if self.retrain >= self.steps:
            raise ValueError(
                f"retrain must be below steps, got {self.retrain} for {self.steps} steps"
            )
        for name, kind in (("select", Selection), ("augment", Augmentation)):
            check_choice(name, getattr(self, name), get_args(kind))
        self.check_square()

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or are smaller than the square, or there is no row of a class it needs.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_images(train, self)
        check_class("target", self.target, train.classes)
        check_class("source", self.source, train.classes)
        if not bool((train.y == self.target).any()):
            raise ConfigError(
                [f"no training row is of class {self.target}"], "choose another `target`"
            )
        patched = self._patched(train, seed)
        if not len(patched):
            raise ConfigError(
                [f"no training row is of class {self.source}"], "choose another `source`"
            )
        models = self._models(train, recipe, seed, 0)
        rows = self._rows(train, models, seed)
        clean, y = train.x[rows], train.y[rows]
        state = _Retraining(self, train, rows, patched, recipe, seed, models)
        start = noise_in_ball(clean, self.eps, derive(seed, "sleeper agent"), 0)
        how = partial(
            adam_descent,
            eps=self.eps,
            steps=self.steps,
            lr=self.step * self.eps,
            signed=True,
            start=start,
        )
        poison, curve = how(state, clean, what="sleeper agent")
        attach("objective", curve[None])
        points = (
            (test.y != self.target if self.source is None else test.y == self.source)
            .nonzero()
            .squeeze(1)
        )
        goal = wanted(test.y[points], self.target, test.classes)
        return Poisoned(
            *replace(train, rows, poison, y),
            *attacked(test, points, goal, self.trigger(test.x[points], seed)),
        )

    def _patched(self, train: Dataset, seed: int) -> Dataset:
        """Returns the source images of the training set with the trigger, labelled as wanted."""
        sources = train.take(
            train.y != self.target if self.source is None else train.y == self.source
        )
        return Dataset(
            self.trigger(sources.x, seed), torch.full_like(sources.y, self.target), train.classes
        )

    def _models(self, data: Dataset, recipe: Recipe, seed: int, time: int) -> list[nn.Module]:
        own = derive(seed, "retraining", time) if time else seed
        return [surrogate(data, self.surrogate, recipe, own, k) for k in range(self.surrogates)]

    def _rows(self, train: Dataset, models: list[nn.Module], seed: int) -> Tensor:
        """Returns the rows of the target class to poison, ascending (section 3.3: those with the largest gradients)."""
        if self.select == "random":
            return draw(train.y == self.target, self.budget, seed)
        rows = (train.y == self.target).nonzero().squeeze(1)
        norms = torch.stack([gradient_norms(model, train.take(rows)) for model in models]).mean(0)
        order = norms.argsort(descending=True, stable=True)
        return rows[order[: count(self.budget, len(train))]].sort().values


class _Retraining:
    """The objective of the crafting; at each step that is due it trains the attacker's models on the poison so far."""

    def __init__(
        self,
        attack: SleeperAgent,
        train: Dataset,
        rows: Tensor,
        patched: Dataset,
        recipe: Recipe,
        seed: int,
        models: list[nn.Module],
    ) -> None:
        self.attack, self.train, self.rows, self.patched, self.recipe, self.seed = (
            attack,
            train,
            rows,
            patched,
            recipe,
            seed,
        )
        self.due = {
            attack.steps * k // (attack.retrain + 1): k for k in range(1, attack.retrain + 1)
        }
        self.augment = (
            None
            if attack.augment == "none"
            else shifting(seed, flip=attack.augment == "shift-flip")
        )
        self.use(models)

    def use(self, models: list[nn.Module]) -> None:
        """Takes the gradients that are wanted from `models`."""
        self.models, self.goals = models, [wanted_gradient(model, self.patched) for model in models]

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Returns the objective of the poison x, (k, *shape), at step t."""
        if t in self.due:
            data = Dataset(
                self.train.x.index_copy(0, self.rows, x.detach()), self.train.y, self.train.classes
            )
            self.use(self.attack._models(data, self.recipe, self.seed, self.due[t]))
        return misalignment(
            self.models,
            self.goals,
            self.augment(x, t) if self.augment else x,
            self.train.y[self.rows],
        )
