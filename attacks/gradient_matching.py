"""Gradient matching, Witches' Brew (Geiping et al., ICLR 2021, arXiv 2009.02276).

The gradient of the poison's own loss is turned towards that of the attacked point with the wanted
label, so that each step on the poison is a step on the attack; made for victims trained from
scratch. The objective falls; success was hardly shown here.

Cost: the surrogates, and `restarts` x `steps` second derivatives of the poison's loss.
"""

from dataclasses import dataclass

from torch import Tensor

from attacks.kit.aim import OnePoint, take_aim
from attacks.kit.descent import adam_descent, noise_in_ball, restarted
from attacks.kit.gradient_matching import (
    Augmentation,
    Augmenting,
    augmenting,
    misalignment,
    wanted_gradient,
)
from attacks.kit.rows import poison_in_place
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training import Recipe


@dataclass(frozen=True)
class GradientMatching(OnePoint, Augmenting):
    """Changes rows of the wanted class within eps so that training on them turns one test point.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of signed Adam, in each restart.
        restarts: from other noise; the one that ends lowest counts.
        step: learning rate of Adam as a fraction of eps.
        augment: of the poison while it is crafted, differentiable, for victims that augment:
            "shift", "shift-flip"; or "none".
        surrogate: the recipe of the attacker's models; None: the victim's (white box).
        surrogates: number of the attacker's models; the mean objective over all is lowered.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    clean_label = True

    source: int | None = None
    target: int | None = None
    budget: float = 0.01
    eps: float = 16 / 255
    steps: int = 250
    restarts: int = 8
    step: float = 0.1
    augment: Augmentation = "none"
    surrogate: Recipe | None = None
    surrogates: int = 1

    def __post_init__(self) -> None:
        self.check_one_point()
        check_at_least("restarts", self.restarts, 1)
        check_fraction("step", self.step)
        self.check_augment()

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
        wish = test.take(aim.point).relabel(aim.wanted)
        goals = [wanted_gradient(model, wish) for model in aim.models]
        clean = train.x[aim.rows]
        y = train.y[aim.rows]
        augment = augmenting(self.augment, seed)

        def objective(x: Tensor, t: int) -> Tensor:
            return misalignment(aim.models, goals, augment(x, t), y)

        def run(restart: int) -> tuple[Tensor, Tensor]:
            start = noise_in_ball(
                clean,
                self.eps,
                derive(seed, "gradient matching"),
                restart,
            )
            return adam_descent(
                objective,
                clean,
                eps=self.eps,
                steps=self.steps,
                lr=self.step * self.eps,
                signed=True,
                start=start,
                what=f"gradient matching {restart + 1}",
            )

        poison = restarted(run, self.restarts)
        return poison_in_place(
            train,
            test,
            rows=aim.rows,
            x=poison,
            points=aim.point,
            wanted=aim.wanted,
        )
