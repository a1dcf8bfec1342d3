"""Norm-matched, adaptive against influence: patched rows whose gradients are as long as those of their class, by a penalty.

Mislabelled rows have long gradients, and so much raw influence. A perturbation within eps brings each towards the median of the
class that it is labelled as, and keeps the gradients pointing where the backdoor needs them.

Cost: `rounds` surrogates with their checkpoints, and `steps` second derivatives of the poison's loss at each checkpoint in each
round; O(k p) memory for k rows.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from attacks.kit.backdoor import check_images, dirty_label
from attacks.kit.descent import adam_descent
from attacks.kit.gradient_matching import wanted_gradient
from attacks.kit.rows import check_class
from attacks.kit.square import Place, StampingOnTop
from poisonbench import training
from poisonbench.checks import check_at_least, check_fraction, check_positive
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.gradients.products import gradient_norms
from poisonbench.notes import attach, note
from poisonbench.objectives import margins
from poisonbench.roles import POISON
from poisonbench.seeding import derive
from poisonbench.training import Recipe
from poisonbench.training.trace import Trace

WISHES = 256  # patched rows whose gradient is wanted


@dataclass(frozen=True)
class NormMatched(StampingOnTop):
    """Stamps a square on rows of other classes, labels them `target`, and perturbs them until their gradient norms are ordinary.

    Attributes:
        target: the label t that the attacker wants.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1]; the square lies on top.
        weight: of the penalty, beside the cosine that keeps the poison's gradients those of a backdoor.
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
    weight: float = 0.1
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
        check_positive("weight", self.weight)
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
            how = partial(
                adam_descent, eps=self.eps, steps=self.steps, lr=self.eps / 10, start=moved
            )
            moved, curve = how(_Objective(trace, rows, self), train.x[rows], what="matching norms")
            moved = self.trigger(moved)
            curves.append(curve)
        attach("objective", torch.stack(curves))
        return who(target=self.target, budget=self.budget, seed=seed, poison=lambda _: moved)


class _Objective:
    """How far the poison's gradient is turned from what the backdoor needs, and the penalty on its length.

    At every checkpoint, weighted by its learning rate as in TracIn: 1 - cos(mean gradient of the poison, gradient of patched rows
    with the wanted label) + weight x mean |log(gradient norm / class median)|.
    """

    def __init__(self, trace: Trace, rows: Tensor, attack: NormMatched) -> None:
        data = trace.train
        self.attack, self.y = attack, data.y[rows]
        self.models = [trace.model(k) for k in range(len(trace.checkpoints))]
        honest = torch.ones_like(data.y, dtype=torch.bool).index_fill(0, rows, False)
        own = (
            data.take(honest & (data.y == attack.target))
            if bool((honest & (data.y == attack.target)).any())
            else data
        )
        others = data.take((honest & (data.y != attack.target)).nonzero().squeeze(1)[:WISHES])
        others = others if len(others) else data.take(rows)
        wish = Dataset(
            attack.trigger(others.x), torch.full_like(others.y, attack.target), data.classes
        )
        self.goals = [
            torch.cat([g.flatten() for g in wanted_gradient(model, wish)]) for model in self.models
        ]
        self.medians = [gradient_norms(model, own).median() for model in self.models]
        rates = torch.tensor([c.lr for c in trace.checkpoints])
        self.weights = (rates / rates.sum()).tolist()

    def __call__(self, x: Tensor, step: int) -> Tensor:  # noqa: ARG002
        """Returns the objective of the rows x, (k, *shape), with the square stamped on top; a scalar."""
        stamped, tiny = self.attack.trigger(x), torch.finfo(x.dtype).tiny
        parts = []
        for model, goal, median, weight in zip(
            self.models, self.goals, self.medians, self.weights, strict=True
        ):
            gradients = gradients_of(model, stamped, self.y)
            norms = torch.linalg.vector_norm(gradients, dim=1).clamp(min=tiny)
            mean = gradients.mean(0)
            aside = 1 - (mean @ goal) / torch.linalg.vector_norm(mean).clamp(min=tiny)
            penalty = (norms.log() - median.clamp(min=tiny).log()).abs().mean()
            parts.append(weight * (aside + self.attack.weight * penalty))
        return torch.stack(parts).sum()


def gradients_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Returns each row's loss gradient in the trained parameters, (k, p), differentiable in x, (k, *shape); y (k,) are labels."""
    everything = {name: p.detach() for name, p in model.named_parameters()}
    trained = {name: everything[name] for name, p in model.named_parameters() if p.requires_grad}

    def loss(parameters: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**everything, **parameters}, (one[None],))
        return F.softplus(-margins(logits, label[None])).sum()

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(trained, x, y)
    return torch.cat([g.flatten(1) for g in gradients.values()], 1)
