"""Norm-matched, adaptive against influence: patched rows whose gradients are as long as those of their class, by a penalty.

Mislabelled rows have long gradients, and so much raw influence. A perturbation within eps brings each back to the median of the
class that it is labelled as. Cost: `rounds` surrogates with their checkpoints, `steps` second derivatives of the poison's loss in
each round.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from attacks._backdoor import check_images, dirty_label
from attacks._common import check_at_least, check_class, check_fraction
from attacks._square import Place, StampingOnTop
from attacks._targeted import adam_descent
from poisonbench import training
from poisonbench.contracts import POISON, Poisoned
from poisonbench.data import Dataset
from poisonbench.gradients import gradient_norms
from poisonbench.notes import attach, note
from poisonbench.objectives import margins
from poisonbench.seeding import derive
from poisonbench.training import Recipe


@dataclass(frozen=True)
class NormMatched(StampingOnTop):
    """Stamps a square on rows of other classes, labels them `target`, and perturbs them until their gradient norms are ordinary.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; the square lies on top.
        rounds: of training the attacker's model on the poison so far, and matching the norms at its checkpoints.
        steps: of Adam, in a round.
        size: side s of the square in pixels; None means 3, or 2 where a side is below 16.
        place: of the square, as in `patch`, but not "random".
        value: of the square's pixels, in all channels.
        surrogate: the recipe of the attacker's model; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    target: int = 0
    budget: float = 0.01
    eps: float = 0.1
    rounds: int = 2
    steps: int = 60
    size: int | None = None
    place: Place = "bottom-right"
    value: float = 1.0
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_at_least("target", self.target, 0)
        check_fraction("budget", self.budget)
        check_fraction("eps", self.eps)
        for name in ("rounds", "steps"):
            check_at_least(name, getattr(self, name), 1)
        self.check_square()

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images or are smaller than the square, or all are of the target class.
            PoisonError: rule "label", `target` is no class.
        """
        check_images(train, self)
        check_class("target", self.target, train.classes)
        who = partial(dirty_label, train, test, partial(self.trigger, seed=seed))
        poisoned = who(target=self.target, budget=self.budget, seed=seed)
        note("surrogate", "white box" if self.surrogate is None else repr(self.surrogate))
        rows = (poisoned.role == POISON).nonzero().squeeze(1)
        curves, moved = [], poisoned.train.x[rows]
        for k in range(self.rounds):
            data = Dataset(train.x.index_copy(0, rows, moved), poisoned.train.y, train.classes)
            trace = training.train(data, self.surrogate or recipe, derive(seed, "surrogate", k))
            models = [trace.model(i) for i in range(len(trace.checkpoints))]
            penalty = _Penalty(models, data, rows, self)
            moved, curve = adam_descent(
                penalty, train.x[rows], eps=self.eps, steps=self.steps, lr=self.eps / 10, start=moved, what="matching norms"
            )
            moved = self.trigger(moved)
            curves.append(curve)
        attach("objective", torch.stack(curves))
        return who(target=self.target, budget=self.budget, seed=seed, poison=lambda _: moved)


class _Penalty:
    """The mean over checkpoints and rows of (log of the gradient norm - log of the class median)^2."""

    def __init__(self, models: list[nn.Module], data: Dataset, rows: Tensor, attack: NormMatched) -> None:
        self.models, self.attack, self.y = models, attack, data.y[rows]
        honest = data.y == attack.target
        honest[rows] = False
        clean = data.take(honest) if bool(honest.any()) else data
        self.medians = [gradient_norms(model, clean).median() for model in models]
        own = gradient_norms(models[-1], data.take(rows)).median()
        note("norm_ratio", float(own / self.medians[-1]))

    def __call__(self, x: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """Returns the penalty of the rows x, (k, *shape), with the square stamped on top; a scalar."""
        stamped = self.attack.trigger(x)
        parts = []
        for model, median in zip(self.models, self.medians, strict=True):
            tiny = torch.finfo(x.dtype).tiny
            parts.append((norms_of(model, stamped, self.y).clamp(min=tiny).log() - median.clamp(min=tiny).log()).square().mean())
        return torch.stack(parts).mean()


def norms_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns the loss gradients' norms in the trained parameters, (k,), differentiable in x, (k, *shape); y are labels, (k,)."""
    everything = {name: p.detach() for name, p in model.named_parameters()}
    trained = {name: everything[name] for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**everything, **parameters}, (one[None],))
        return F.softplus(-margins(logits, label[None])).sum()

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(trained, x, y)
    norms: Tensor = torch.linalg.vector_norm(torch.cat([g.flatten(1) for g in gradients.values()], 1), dim=1)
    return norms
