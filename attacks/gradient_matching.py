"""Gradient matching, Witches' Brew (Geiping et al., ICLR 2021, arXiv 2009.02276). Poison whose gradient teaches the wrong label.

The gradient of the poison's own loss is turned towards that of the attacked point with the wanted label, so that each step on
the poison is a step on the attack; made for victims trained from scratch.

Cost: the surrogates, and `restarts` x `steps` second derivatives of the poison's loss.
"""

from dataclasses import dataclass
from functools import partial
from typing import get_args

from torch import Tensor

from attacks.kit.aim import check_targeted, take_aim
from attacks.kit.backdoor import check_images
from attacks.kit.descent import adam_descent, noise_in_ball, restarted
from attacks.kit.gradient_matching import Augmentation, misalignment, shifting, wanted_gradient
from attacks.kit.rows import attacked, replace
from poisonbench.checks import check_choice, check_fraction
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training import Recipe


@dataclass(frozen=True)
class GradientMatching:
    """Changes rows of the wanted class within eps so that training on them lowers the loss of the wanted label at one test point.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of signed Adam, in each restart.
        restarts: from other noise; the one that ends lowest counts.
        step: learning rate of Adam as a fraction of eps.
        augment: of the poison while it is crafted, differentiable, for victims that augment: "shift", "shift-flip"; or "none".
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
        check_targeted(self, "restarts")
        check_fraction("step", self.step)
        check_choice("augment", self.augment, get_args(Augmentation))

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images, or there is no point or row of a class it needs.
            PoisonError: rule "label", `source` or `target` is no class.
        """
        check_images(train, self)
        aim = take_aim(self, train, test, recipe, seed)
        wish = Dataset(test.x[aim.point], aim.wanted, test.classes)
        goals = [wanted_gradient(model, wish) for model in aim.models]
        clean, y = train.x[aim.rows], train.y[aim.rows]
        augment = (
            None if self.augment == "none" else shifting(seed, flip=self.augment == "shift-flip")
        )

        def objective(x: Tensor, t: int) -> Tensor:
            return misalignment(aim.models, goals, augment(x, t) if augment else x, y)

        def run(restart: int) -> tuple[Tensor, Tensor]:
            start = noise_in_ball(clean, self.eps, derive(seed, "gradient matching"), restart)
            how = partial(
                adam_descent,
                eps=self.eps,
                steps=self.steps,
                lr=self.step * self.eps,
                signed=True,
                start=start,
            )
            return how(objective, clean, what=f"gradient matching {restart + 1}")

        poison = restarted(run, self.restarts)
        return Poisoned(
            *replace(train, aim.rows, poison, y), *attacked(test, aim.point, aim.wanted)
        )
