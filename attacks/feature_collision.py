"""Feature collision, Poison Frogs (Shafahi et al., NeurIPS 2018, arXiv 1804.00792).

Each poison lies next to the attacked point in feature space and keeps its label, the wanted one.

Needs: transfer, a victim with (nearly) the attacker's features: trained from scratch, it moves the
two apart.

Cost: the surrogates and `steps` backward passes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.kit.aim import OnePoint, take_aim
from attacks.kit.descent import project
from attacks.kit.rows import poison_in_place
from attacks.kit.splitting import Splitting
from poisonbench.checks import check_positive, check_share
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models.head import body_of
from poisonbench.notes import note
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe


@dataclass(frozen=True)
class FeatureCollision(OnePoint):
    """Moves rows of the wanted class onto one test point in feature space, near where they were.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; None:
            `beta` alone holds the poison, as in the paper.
        steps: of forward-backward splitting.
        beta: weight of the distance to the row, in units of (features / pixels)^2, as in section 3.
        lr: length of the forward step, the largest that is tried; halved for a row wherever its
            objective would rise.
        watermark: opacity of the attacked point laid over the rows first; needs eps=None.
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
    eps: float | None = 8 / 255
    steps: int = 120
    beta: float = 0.25
    lr: float = 1.0
    watermark: float = 0.0
    surrogate: Recipe | None = None
    surrogates: int = 1

    def __post_init__(self) -> None:
        self.check_one_point()
        check_positive("beta", self.beta)
        check_positive("lr", self.lr)
        check_share("watermark", self.watermark)
        if self.watermark and self.eps is not None:
            rule = "a watermark leaves every ball around the rows: it needs eps=None"
            raise ValueError(f"{rule}, got {self.eps}")

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
        clean = train.x[aim.rows]
        goal = test.x[aim.point]
        base = (1 - self.watermark) * clean + self.watermark * goal  # section 4.2
        poison = self.collide(base, clean, goal, bodies)
        return poison_in_place(
            train,
            test,
            rows=aim.rows,
            x=poison,
            points=aim.point,
            wanted=aim.wanted,
        )

    def collide(
        self,
        base: Tensor,
        clean: Tensor,
        goal: Tensor,
        bodies: list[nn.Module],
    ) -> Tensor:
        """Returns the rows moved onto `goal` in feature space.

        Logs the mean objective before each step and after the last.

        Args:
            base: (k, *shape), to which beta holds the poison: the clean rows, watermarked or not.
            clean: (k, *shape), the centres of the balls.
            goal: (1, *shape), the attacked point.
            bodies: feature nets.
        """
        with torch.no_grad(), exact_arithmetic():
            goals = [body(goal) for body in bodies]

        def distance(x: Tensor) -> Tensor:
            return feature_distance(bodies, goals, x)

        def bounded(x: Tensor) -> Tensor:
            if self.eps is None:
                return x.clamp(0, 1)
            return project(x, clean, self.eps)

        features = goals[0].shape[1]
        pixels = base[0].numel()
        beta = self.beta * (features / pixels) ** 2
        splitting = Splitting(distance, bounded, base, beta=beta, lr=self.lr)
        x = splitting.descend(self.steps)
        with torch.no_grad(), exact_arithmetic():
            note("feature_distance_clean", float(distance(base).mean()))
            note("feature_distance_poison", float(distance(x).mean()))
        return x


def feature_distance(bodies: list[nn.Module], goals: list[Tensor], x: Tensor) -> Tensor:
    """Returns the first term of equation (1) per row, (k,), the mean over the nets.

    Args:
        bodies: feature nets f.
        goals: f(t) of each, (1, d).
        x: (k, *shape).
    """
    squares = []
    for body, goal in zip(bodies, goals, strict=True):
        away = body(x) - goal
        squares.append(away.square().sum(1))
    return torch.stack(squares).mean(0)
