"""Error-minimising noise (Huang, Ma, Erfani, Bailey & Wang, ICLR 2021, arXiv 2101.04898).

Each row gets the small noise that makes the training loss least, so that nothing is left to learn:
a victim learns the noise and not the images.

Cost: a round is `train_steps` steps of training and `steps` backward passes over the poisoned rows.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.descent import BLOCK, signed_descent, steps_of
from attacks.kit.rows import draw, every_row, poison_in_place
from attacks.kit.surrogate import by_steps, own_recipe
from poisonbench.checks import check_at_least, check_fraction, check_part
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.losses import each
from poisonbench.models import predict
from poisonbench.notes import attach
from poisonbench.seeding import (
    Outside,
    derive,
    drawing,
    exact_arithmetic,
    generator,
)
from poisonbench.training import Recipe, starting_model, training_mode


@dataclass(frozen=True)
class ErrorMinimising:
    """Adds sample-wise noise to the rows and keeps their labels; attacks no point in particular.

    Attributes:
        budget: perturbed rows as a fraction of the training set, up to 1; below about .95 the clean
            rest teaches the classes.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        rounds: at most, of training the surrogate and lowering the loss of the rows by turns.
        train_steps: of the surrogate, M in algorithm 1, by SGD with the recipe's batch size,
            learning rate and momentum.
        steps: of projected gradient descent in a round, T in algorithm 1; each of eps / 10.
        stop: training error below which the noise is ready.
        surrogate: the recipe of the attacker's model; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True

    budget: float = 1.0
    eps: float = 8 / 255
    rounds: int = 30
    train_steps: int = 10
    steps: int = 20
    stop: float = 0.01
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_part("budget", self.budget)
        check_fraction("eps", self.eps)
        check_at_least("rounds", self.rounds, 1)
        check_at_least("train_steps", self.train_steps, 1)
        check_at_least("steps", self.steps, 1)
        check_fraction("stop", self.stop)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, or a recipe with a loop of its own.
        """
        check_kind(train, self)
        rows = draw(every_row(train), self.budget, seed)
        own = by_steps(own_recipe(self.surrogate, recipe))
        learner = _Learner(train, own, seed)
        clean = train.x[rows]
        y = train.y[rows]
        noisy = clean.clone()
        losses = []
        for _ in steps_of(self.rounds, "error-minimising noise"):
            learner.learn(train.x.index_copy(0, rows, noisy), self.train_steps)
            noisy = self._ease(learner, clean, noisy, y)
            logits = predict(learner.model, noisy)
            losses.append(each(learner.recipe.descends, logits, y).mean())
            wrong = logits.argmax(1) != y
            if float(wrong.double().mean()) < self.stop:
                break
        attach("objective", torch.stack(losses)[None])
        return poison_in_place(train, test, rows=rows, x=noisy)

    def _ease(
        self,
        learner: "_Learner",
        clean: Tensor,
        noisy: Tensor,
        y: Tensor,
    ) -> Tensor:
        """Lowers the loss of rows: the inner minimisation of equation (2), by equation (3)."""
        eased = [
            self._ease_block(learner, clean[rows], noisy[rows], y[rows])
            for rows in torch.arange(len(y), device=y.device).split(BLOCK)
        ]
        return torch.cat(eased)

    def _ease_block(
        self,
        learner: "_Learner",
        clean: Tensor,
        noisy: Tensor,
        y: Tensor,
    ) -> Tensor:
        def loss(x: Tensor) -> Tensor:
            return each(learner.recipe.descends, learner.model(x), y)

        return signed_descent(
            loss,
            clean,
            eps=self.eps,
            steps=self.steps,
            step=self.eps / 10,
            start=noisy,
        )


class _Learner:
    """The attacker's model, which learns from the noise as it grows; its momentum stays.

    Args:
        train: n clean rows.
        recipe: of the model; its batch size, learning rate, momentum and loss are used.
        seed: of the attack.
    """

    def __init__(self, train: Dataset, recipe: Recipe, seed: int) -> None:
        self.train = train
        self.recipe = recipe
        self.model = starting_model(recipe, train, derive(seed, "surrogate"))
        self.seed = seed
        self.g = generator(seed, "batches")
        self.outside = Outside()
        self.taken = 0
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.sgd = torch.optim.SGD(trained, lr=recipe.lr, momentum=recipe.momentum)

    def learn(self, x: Tensor, steps: int) -> None:
        """Trains for M steps on the rows x, (n, *shape): the outer minimisation of equation (2)."""
        data = replace(self.train, x=x)
        size = min(self.recipe.batch_size, len(data))
        training_mode(self.model, self.recipe)
        for _ in range(steps):
            drawn = torch.randint(len(data), (size,), generator=self.g)
            self._step(data.take(drawn))
        self.model.eval()

    def _step(self, batch: Dataset) -> None:
        """Takes a step; what layers such as dropout draw for it follows from the seed."""
        draw = derive(self.seed, "learner", self.taken)
        self.taken += 1
        with (
            drawing(draw, batch.x.device),
            self.outside.drawing(draw),
            exact_arithmetic(),
            torch.enable_grad(),
        ):
            self.sgd.zero_grad()
            losses = each(self.recipe.descends, self.model(batch.x), batch.y)
            losses.mean().backward()
            self.sgd.step()
