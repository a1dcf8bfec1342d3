"""Hidden trigger (Saha, Subramanya & Pirsiavash, AAAI 2020, arXiv 1910.00033). No row shows it.

Poison looks like the target class and is labelled so, but lies where patched images of the source
class lie in feature space. The paper takes 5,000 plain steps.

Needs: transfer, a victim whose features are (nearly) the attacker's: trained from scratch, it moves
them apart.

Cost: one surrogate training, steps x budget n backward passes.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import attacked_rows, check_classes, clean_label
from attacks.kit.descent import signed_descent
from attacks.kit.square import Place, Stamping
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.models.head import body_of
from poisonbench.notes import note
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class HiddenTrigger(Stamping):
    """Moves rows of class `target` within eps towards patched images of `source` in feature space.

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
        surrogate: the recipe of the attacker's model; None: the victim's (white box), with its
            pretrained features in transfer.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
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

    def hide(
        self,
        x: Tensor,
        patched: Tensor,
        features: nn.Module,
        seed: int,
    ) -> Tensor:
        """Returns the rows x, (k, *shape), moved towards images of `patched` in feature space.

        Args:
            x: clean rows, the centres of the balls.
            patched: (s, *shape), source images with the patch.
            features: the attacker's, (B, *shape) -> (B, d).
            seed: of the source images drawn at each step.
        """
        goals = predict(features, patched)
        g = generator(seed, "sources")

        def distance(z: Tensor) -> Tensor:
            # algorithm 1: sources drawn anew, matched one to one, one step of descent
            dealt = _deal(len(goals), len(x), g)
            goal = goals[dealt.to(goals.device)]
            now = features(z)
            match = nearest_pairs(now.detach(), goal)
            squares: Tensor = (now - goal[match]).square().sum(1)  # equation (1)
            return squares

        across = 2.5 * self.eps / self.steps
        hidden = signed_descent(
            distance,
            x,
            eps=self.eps,
            steps=self.steps,
            step=max(self.eps / 16, across),
            decay=True,
        )
        note("feature_distance_clean", _mean_distance(predict(features, x), goals))
        note(
            "feature_distance_poison", _mean_distance(predict(features, hidden), goals)
        )
        return hidden

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or there is no
                row of a class it needs.
            PoisonError: rule "label", `target` or `source` is no class.
        """
        check_kind(train, self)
        trigger = partial(self.trigger, seed=seed)
        # a patch that does not fit is refused before anything is trained
        patched = trigger(self._sources(train))
        model = surrogate(train, self.surrogate, recipe, seed)
        body = body_of(model)
        return clean_label(
            train,
            test,
            trigger,
            target=self.target,
            budget=self.budget,
            seed=seed,
            source=self.source,
            poison=partial(self.hide, patched=patched, features=body, seed=seed),
        )

    def _sources(self, train: Dataset) -> Tensor:
        """Returns the training images, (s, *shape), whose patched features are to be hidden."""
        sources = attacked_rows(train, self.target, self.source)
        if not bool(sources.any()):
            what = f"no training row is of class {self.source}"
            raise ConfigError([f"{what}, whose patched features are to be hidden"])
        return train.x[sources]


def _deal(sources: int, k: int, g: torch.Generator) -> Tensor:
    """Returns (k,) int64 below `sources`: permutations one after the other, none used up early."""
    rounds = -(-k // sources)
    orders = [torch.randperm(sources, generator=g) for _ in range(rounds)]
    return torch.cat(orders)[:k]


def nearest_pairs(features: Tensor, goals: Tensor) -> Tensor:
    """Returns (k,) int64: the goal of each row in the matching of least total distance.

    Args:
        features: (k, d).
        goals: (k, d).
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    distance = torch.cdist(features, goals).cpu()
    match = linear_sum_assignment(distance.numpy())[1]
    return torch.as_tensor(match, device=goals.device)


def _mean_distance(features: Tensor, goals: Tensor) -> float:
    """Returns the mean distance of the rows, (k, d), to the nearest of the goals, (s, d)."""
    return float(torch.cdist(features, goals).amin(1).mean())
