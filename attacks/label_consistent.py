"""Label-consistent backdoor (Turner, Tsipras & Madry, 2019, arXiv 1912.02771). No label is wrong.

Rows of the target class are made hard to recognise by an adversarial perturbation, so that the
victim needs the patch on them to tell their class.

Cost: one surrogate training, steps x budget n backward passes.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from attacks.kit.backdoor import clean_label
from attacks.kit.descent import BLOCK, project, signed_descent
from attacks.kit.rows import check_class
from attacks.kit.square import Place, StampingOnTop
from attacks.kit.surrogate import surrogate
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.seeding import generator
from poisonbench.training import Recipe


@dataclass(frozen=True)
class LabelConsistent(StampingOnTop):
    """Hardens rows of class `target`, stamps a square on them, and on the test points to attack.

    The paper's surrogate is trained adversarially; here it follows a recipe, by which the attack
    does nothing on all of CIFAR-10 (`experiments/results/gpu-h200.md`): `surrogate` takes one with
    a loop of adversarial training. On 8x8 digits eps=.3 hardens, 16/255 hardly does.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set; .05 is half of one of ten equal
            classes.
        eps: radius of the max-norm ball in which a row is hardened, in pixel values of [0, 1]; the
            square lies on top.
        steps: of projected gradient descent, from a random point of the ball.
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`, but not "random"; "corners" survives a victim that
            flips its images.
        value: of the square's pixels, in all channels.
        surrogate: the recipe of the attacker's model; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True

    target: int = 0
    budget: float = 0.05
    eps: float = 16 / 255
    steps: int = 100
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("eps", self.eps)
        check_at_least("steps", self.steps, 1)
        self.check_square()

    def harden(self, x: Tensor, model: nn.Module, seed: int) -> Tensor:
        """Returns rows x of the target class, (k, *shape), moved to where the loss is large."""
        g = generator(seed, "start")
        uniform = torch.rand(x.shape, generator=g, dtype=torch.float32)
        offset = uniform.to(x) * 2 - 1
        starts = project(x + self.eps * offset, x, self.eps)
        crafted = [
            signed_descent(
                partial(self._log_odds, model),
                clean,
                eps=self.eps,
                steps=self.steps,
                start=start,
            )
            for clean, start in zip(x.split(BLOCK), starts.split(BLOCK), strict=True)
        ]
        hard = torch.cat(crafted)
        note("share_recognised_clean", self._recognised(model, x))
        note("share_recognised_hardened", self._recognised(model, hard))
        return hard

    def _log_odds(self, model: nn.Module, x: Tensor) -> Tensor:
        """Returns the log odds of the target class, (k,), to be made small.

        Section 4.2 maximises the loss log(1 + exp(-odds)): the same signs of the gradient, but it
        underflows where the model is sure.
        """
        logits = model(x)
        own = torch.tensor([self.target], device=x.device)
        others = logits.index_fill(1, own, -torch.inf).logsumexp(1)
        odds: Tensor = logits[:, self.target] - others
        return odds

    def _recognised(self, model: nn.Module, x: Tensor) -> float:
        right = predict(model, x).argmax(1) == self.target
        return float(right.float().mean())

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind or smaller than the square, or none is of
                the target class.
            PoisonError: rule "label", `target` is no class.
        """
        check_kind(train, self)
        check_class("target", self.target, train.classes)
        self.trigger(train.x[:1])  # refused before anything is trained
        model = surrogate(train, self.surrogate, recipe, seed)

        def poison(x: Tensor) -> Tensor:
            return self.trigger(self.harden(x, model, seed))

        return clean_label(
            train,
            test,
            partial(self.trigger, seed=seed),
            target=self.target,
            budget=self.budget,
            seed=seed,
            poison=poison,
        )
