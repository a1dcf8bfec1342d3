"""Sleeper Agent (Souri et al., NeurIPS 2022, arXiv 2106.08970). A backdoor by gradient matching.

No row shows the trigger: the poison's gradient is turned towards that of patched source images with
the wanted label; the attacker's model is retrained on the way, and the rows are those with the
largest gradients. Made for victims trained from scratch. The objective falls; success was never
shown here.

Cost: the surrogates, 1 + `retrain` times, and `steps` second derivatives of the poison's loss.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import attacked_rows, check_classes, wanted
from attacks.kit.descent import adam_descent, noise_in_ball
from attacks.kit.gradient_matching import (
    Augmentation,
    Augmenting,
    augmenting,
    misalignment,
    wanted_gradient,
)
from attacks.kit.rows import draw, poison_in_place, rows_of
from attacks.kit.square import Place, Stamping
from attacks.kit.surrogate import surrogates
from poisonbench.checks import check_at_least, check_choice, check_fraction
from poisonbench.contracts.budget import count
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.gradients.products import gradient_norms
from poisonbench.notes import attach
from poisonbench.seeding import derive
from poisonbench.training import Recipe

Selection = Literal["norm", "random"]


@dataclass(frozen=True)
class SleeperAgent(Stamping, Augmenting):
    """Changes rows of `target` within eps so that training on them turns patched source images.

    Attributes:
        target: the label t that the attacker wants.
        source: the class that is attacked with the patch; None for all but the target.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of signed Adam.
        step: its learning rate as a fraction of eps.
        retrain: how often, evenly over the steps, the models are trained anew on the poison so far.
        select: "norm": the rows of the target class with the largest gradients; "random".
        augment: of the poison while it is crafted, differentiable, for victims that augment:
            "shift", "shift-flip"; or "none".
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
        check_fraction("budget", self.budget)
        check_fraction("eps", self.eps)
        check_fraction("step", self.step)
        check_at_least("steps", self.steps, 1)
        check_at_least("retrain", self.retrain, 0)
        check_at_least("surrogates", self.surrogates, 1)
        if self.retrain >= self.steps:
            got = f"{self.retrain} for {self.steps} steps"
            raise ValueError(f"retrain must be below steps, got {got}")
        check_choice("select", self.select, get_args(Selection))
        self.check_augment()
        self.check_square()

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or no row of a class.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_kind(train, self)
        patched = self._patched(train, seed)
        models = self._models(train, recipe, seed, 0)
        rows = self._rows(train, models, seed)
        clean = train.x[rows]
        objective = _Retraining(self, train, rows, patched, recipe, seed, models)
        poison, curve = adam_descent(
            objective,
            clean,
            eps=self.eps,
            steps=self.steps,
            lr=self.step * self.eps,
            signed=True,
            start=noise_in_ball(clean, self.eps, derive(seed, "sleeper agent"), 0),
            what="sleeper agent",
        )
        attach("objective", curve[None])
        points = rows_of(attacked_rows(test, self.target, self.source))
        return poison_in_place(
            train,
            test,
            rows=rows,
            x=poison,
            points=points,
            wanted=wanted(test.y[points], self.target, test.classes),
            shown=self.trigger(test.x[points], seed),
        )

    def _patched(self, train: Dataset, seed: int) -> Dataset:
        """Returns the source images of the training set with the trigger, labelled as wanted."""
        sources = train.take(attacked_rows(train, self.target, self.source))
        if not bool((train.y == self.target).any()):
            what = f"no training row is of class {self.target}"
            raise ConfigError([what], "choose another `target`")
        if not len(sources):
            what = f"no training row is of class {self.source}"
            raise ConfigError([what], "choose another `source`")
        x = self.trigger(sources.x, seed)
        return replace(sources, x=x, y=torch.full_like(sources.y, self.target))

    def _models(
        self, data: Dataset, recipe: Recipe, seed: int, time: int
    ) -> list[nn.Module]:
        """Returns the attacker's models, trained on the clean rows (time 0) or on poison so far."""
        own = seed
        if time:
            own = derive(seed, "retraining", time)
        return surrogates(data, self.surrogate, recipe, own, self.surrogates)

    def _rows(self, train: Dataset, models: list[nn.Module], seed: int) -> Tensor:
        """Returns the rows of the target class to poison, ascending.

        Section 3.3: those with the largest gradients, on the mean over the models.
        """
        if self.select == "random":
            return draw(train.y == self.target, self.budget, seed)
        rows = rows_of(train.y == self.target)
        candidates = train.take(rows)
        norms = [gradient_norms(model, candidates) for model in models]
        order = torch.stack(norms).mean(0).argsort(descending=True, stable=True)
        largest = order[: count(self.budget, len(train))]
        return rows[largest].sort().values


class _Retraining:
    """The objective of the crafting; when it is due it trains the attacker's models on the poison.

    Args:
        attack: its fields.
        train: n clean rows.
        rows: (k,) int64, those that are poisoned.
        patched: source images with the trigger, labelled as wanted.
        recipe: the victim's.
        seed: of the attack.
        models: the attacker's, trained on the clean rows.
    """

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
        self.attack = attack
        self.train = train
        self.rows = rows
        self.patched = patched
        self.recipe = recipe
        self.seed = seed
        # step -> which retraining is due: evenly, the first after 1 / (retrain + 1) of the steps
        parts = attack.retrain + 1
        self.due = {attack.steps * k // parts: k for k in range(1, parts)}
        self.augment = augmenting(attack.augment, seed)
        self.use(models)

    def use(self, models: list[nn.Module]) -> None:
        """Takes the gradients that are wanted from `models`."""
        self.models = models
        self.goals = [wanted_gradient(model, self.patched) for model in models]

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Returns the objective of the poison x, (k, *shape), at step t."""
        if t in self.due:
            poisoned = self.train.x.index_copy(0, self.rows, x.detach())
            data = replace(self.train, x=poisoned)
            self.use(self.attack._models(data, self.recipe, self.seed, self.due[t]))
        y = self.train.y[self.rows]
        return misalignment(self.models, self.goals, self.augment(x, t), y)
