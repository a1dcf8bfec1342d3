"""Feature collision, Poison Frogs (Shafahi et al., NeurIPS 2018, arXiv 1804.00792). Rows of one class with a point's features.

Each poison lies next to the attacked point in feature space and keeps the label of the wanted class.

Needs: transfer, a victim with (nearly) the attacker's features: trained from scratch, it moves the two apart.

Cost: the surrogates and `steps` backward passes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.kit.aim import check_targeted, take_aim
from attacks.kit.backdoor import check_images
from attacks.kit.descent import project, steps_of
from attacks.kit.rows import attacked, replace
from poisonbench.checks import check_positive, check_share
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.notes import attach, note
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe


@dataclass(frozen=True)
class FeatureCollision:
    """Moves rows of the wanted class onto one test point in feature space, staying near where they were.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogate's runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; None: `beta` alone holds the
            poison, as in the paper.
        steps: of forward-backward splitting.
        beta: weight of the distance to the row, in units of (features / pixels)^2, as in the paper's section 3.
        lr: length of the forward step, the largest that is tried; halved for a row wherever its objective would rise.
        watermark: opacity of the attacked point laid over the rows first; needs eps=None.
        surrogate: the recipe of the attacker's models; None: the victim's (white box), with its pretrained features in transfer.
        surrogates: number of the attacker's models; the features of all are met at once.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

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
        check_targeted(self)
        check_positive("beta", self.beta)
        check_positive("lr", self.lr)
        check_share("watermark", self.watermark)
        if self.watermark and self.eps is not None:
            raise ValueError(
                f"a watermark leaves every ball around the rows: it needs eps=None, got {self.eps}"
            )

    def collide(self, base: Tensor, clean: Tensor, goal: Tensor, bodies: list[nn.Module]) -> Tensor:
        """Returns the rows moved onto `goal` in feature space; logs the mean objective before each step and after the last.

        Args:
            base: (k, *shape), to which beta holds the poison: the clean rows, watermarked or not.
            clean: (k, *shape), the centres of the balls.
            goal: (1, *shape), the attacked point.
            bodies: feature nets.
        """
        with torch.no_grad(), exact_arithmetic():
            goals = [body(goal) for body in bodies]
        beta: float = self.beta * (goals[0].shape[1] / base[0].numel()) ** 2
        wide = (-1, *[1] * (base.dim() - 1))

        def distance(x: Tensor) -> Tensor:  # equation (1), first term, a row each
            parts: list[Tensor] = [
                (body(x) - z).square().sum(1) for body, z in zip(bodies, goals, strict=True)
            ]
            return torch.stack(parts).mean(0)

        def objective(x: Tensor) -> Tensor:
            away: Tensor = (x - base).square().flatten(1).sum(1)
            return distance(x) + beta * away

        x, rate, curve = base.clone(), base.new_full((len(base),), self.lr), []
        with exact_arithmetic(), torch.no_grad():
            now = objective(x)
            for _ in steps_of(self.steps, "feature collision"):
                curve.append(now.mean())
                with torch.enable_grad():
                    (slope,) = torch.autograd.grad(distance(x.requires_grad_()).sum(), x)
                x = x.detach()
                moved = backward_step(x - rate.view(wide) * slope, base, 2 * beta * rate.view(wide))
                moved = moved.clamp(0, 1) if self.eps is None else project(moved, clean, self.eps)
                then = objective(moved)
                better = then <= now
                x, now = torch.where(better.view(wide), moved, x), torch.where(better, then, now)
                rate = torch.where(better, (1.2 * rate).clamp(max=self.lr), rate / 2)
            attach("objective", torch.stack([*curve, now.mean()])[None])
            note("feature_distance_clean", float(distance(base).mean()))
            note("feature_distance_poison", float(distance(x).mean()))
        found: Tensor = x
        return found

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images, or there is no point or row of a class it needs.
            PoisonError: rule "label", `source` or `target` is no class.
        """
        check_images(train, self)
        aim = take_aim(self, train, test, recipe, seed)
        bodies = [model.get_submodule("features") for model in aim.models]
        clean, goal = train.x[aim.rows], test.x[aim.point]
        base = (1 - self.watermark) * clean + self.watermark * goal  # section 4.2
        poison = self.collide(base, clean, goal, bodies)
        return Poisoned(
            *replace(train, aim.rows, poison, train.y[aim.rows]),
            *attacked(test, aim.point, aim.wanted),
        )


def backward_step(x: Tensor, base: Tensor, weight: Tensor) -> Tensor:
    """Returns (x + weight base) / (1 + weight), the minimiser over z of |z - x|^2 + weight |z - base|^2.

    With weight = 2 beta rate that is the proximal step of equation (1); algorithm 1 leaves out the 2.
    """
    return (x + weight * base) / (1 + weight)
