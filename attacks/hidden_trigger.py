"""Hidden trigger (Saha, Subramanya & Pirsiavash, AAAI 2020, arXiv 1910.00033). Rows of one class with another's patched features.

Poison looks like the target class and is labelled so, but lies where patched images of the source class lie in feature space;
no training row shows the patch.

Needs: transfer, a victim whose features are (nearly) the attacker's: trained from scratch, it moves them apart.

Cost: one surrogate training, steps x budget n backward passes.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import check_classes, check_images, clean_label
from attacks.kit.descent import signed_descent
from attacks.kit.rows import check_class
from attacks.kit.square import Place, Stamping
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class HiddenTrigger(Stamping):
    """Moves rows of class `target` within eps towards patched images of class `source` in feature space.

    On 8x8 digits eps=.3 and more is needed to come near them.

    Attributes:
        target: the label t that the attacker wants.
        source: the class that is attacked with the patch; None for all but the target.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of projected gradient descent; each draws other source images.
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`; the paper's is "random".
        value: of the square's pixels, in all channels.
        surrogate: the recipe of the attacker's model; None: the victim's (white box), with its pretrained features in transfer.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    clean_label = True

    target: int = 0
    source: int | None = 1
    budget: float = 0.01
    eps: float = 16 / 255
    steps: int = 500
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_classes(self.target, self.source)
        check_fraction("budget", self.budget)
        check_fraction("eps", self.eps)
        check_at_least("steps", self.steps, 1)
        self.check_square()

    def hide(self, x: Tensor, patched: Tensor, features: nn.Module, seed: int) -> Tensor:
        """Returns the rows x, (k, *shape), moved within eps towards images of `patched`, (s, *shape), in feature space."""
        goals, g = predict(features, patched), generator(seed, "sources")
        k, step = len(x), max(self.eps / 16, 2.5 * self.eps / self.steps)

        def distance(
            z: Tensor,
        ) -> Tensor:  # algorithm 1: sources drawn anew, matched one to one, one step of descent
            drawn = torch.cat(
                [torch.randperm(len(goals), generator=g) for _ in range(-(-k // len(goals)))]
            )[:k]
            now, goal = features(z), goals[drawn.to(goals.device)]
            from scipy.optimize import linear_sum_assignment  # slow to import

            match = linear_sum_assignment(torch.cdist(now.detach(), goal).cpu().numpy())[1]
            squares: Tensor = (
                (now - goal[torch.as_tensor(match, device=goal.device)]).square().sum(1)
            )  # equation (1)
            return squares

        hidden = signed_descent(distance, x, eps=self.eps, steps=self.steps, decay=True, step=step)
        for name, rows in (("clean", x), ("poison", hidden)):
            note(
                f"feature_distance_{name}",
                float(torch.cdist(predict(features, rows), goals).amin(1).mean()),
            )
        return hidden

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or are smaller than the square, or there is no row of a class it needs.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_images(train, self)
        check_class("target", self.target, train.classes)
        check_class("source", self.source, train.classes)
        sources = train.y != self.target if self.source is None else train.y == self.source
        if not bool(sources.any()):
            raise ConfigError(
                [
                    f"no training row is of class {self.source}, whose patched features are to be hidden"
                ]
            )
        trigger = partial(self.trigger, seed=seed)
        patched = trigger(
            train.x[sources]
        )  # a patch that does not fit is refused before anything is trained
        features = surrogate(train, self.surrogate, recipe, seed).get_submodule("features")
        poison = partial(self.hide, patched=patched, features=features, seed=seed)
        who = (train, test, trigger)
        return clean_label(
            *who,
            target=self.target,
            budget=self.budget,
            seed=seed,
            source=self.source,
            poison=poison,
        )
