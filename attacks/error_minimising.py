"""Error-minimising noise (Huang, Ma, Erfani, Bailey & Wang, ICLR 2021, arXiv 2101.04898). Rows with nothing left to learn.

Each row gets the small noise that makes the training loss least, so that a victim learns the noise and not the images.

Cost: a round is `train_steps` steps of training and `steps` backward passes over the poisoned rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attacks.kit.backdoor import check_images
from attacks.kit.descent import BLOCK, signed_descent, steps_of
from attacks.kit.rows import attacked, draw, nothing, replace
from poisonbench.checks import check_at_least, check_fraction, check_part
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import attach, note
from poisonbench.seeding import derive, exact_arithmetic, generator
from poisonbench.training import Recipe, starting_model, training_mode


@dataclass(frozen=True)
class ErrorMinimising:
    """Adds sample-wise noise to the rows and keeps their labels; attacks no test point in particular.

    Attributes:
        budget: perturbed rows as a fraction of the training set, up to 1; below about .95 the clean rest teaches the classes.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        rounds: at most, of training the surrogate and lowering the loss of the rows by turns.
        train_steps: of the surrogate, M in algorithm 1, by SGD with the recipe's batch size, learning rate and momentum.
        steps: of projected gradient descent in a round, T in algorithm 1; each of eps / 10.
        stop: training error below which the noise is ready.
        surrogate: the recipe of the attacker's model; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

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
        for name in ("rounds", "train_steps", "steps"):
            check_at_least(name, getattr(self, name), 1)
        check_fraction("stop", self.stop)

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images.
        """
        check_images(train, self)
        own = self.surrogate or recipe
        note("surrogate", "white box" if self.surrogate is None else repr(own))
        rows = draw(torch.ones_like(train.y, dtype=torch.bool), self.budget, seed)
        model = starting_model(own, train, derive(seed, "surrogate"))
        clean, y, g = train.x[rows], train.y[rows], generator(seed, "batches")
        sgd = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad], lr=own.lr, momentum=own.momentum
        )
        noisy, losses = clean.clone(), []
        for _ in steps_of(self.rounds, "error-minimising noise"):
            self._learn(
                model,
                sgd,
                Dataset(train.x.index_copy(0, rows, noisy), train.y, train.classes),
                own,
                g,
            )
            noisy = torch.cat([self._ease(model, *block) for block in _blocks(clean, noisy, y)])
            logits = predict(model, noisy)
            losses.append(F.cross_entropy(logits, y))
            if float((logits.argmax(1) != y).double().mean()) < self.stop:
                break
        attach("objective", torch.stack(losses)[None])
        points = nothing(test)
        return Poisoned(*replace(train, rows, noisy, y), *attacked(test, points, points))

    def _learn(
        self, model: nn.Module, sgd: torch.optim.SGD, data: Dataset, own: Recipe, g: torch.Generator
    ) -> None:
        """Trains the surrogate for M steps on the perturbed rows: the outer minimisation of equation (2)."""
        training_mode(model, own)
        with exact_arithmetic(), torch.enable_grad():
            for _ in range(self.train_steps):
                batch = data.take(
                    torch.randint(len(data), (min(own.batch_size, len(data)),), generator=g)
                )
                sgd.zero_grad()
                F.cross_entropy(model(batch.x), batch.y).backward()
                sgd.step()
        model.eval()

    def _ease(self, model: nn.Module, clean: Tensor, noisy: Tensor, y: Tensor) -> Tensor:
        """Lowers the loss of rows: the inner minimisation of equation (2), by equation (3)."""
        return signed_descent(
            lambda x: F.cross_entropy(model(x), y, reduction="none"),
            clean,
            eps=self.eps,
            steps=self.steps,
            step=self.eps / 10,
            start=noisy,
        )


def _blocks(*parts: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(part.split(BLOCK) for part in parts), strict=True))
