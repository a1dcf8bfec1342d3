"""MetaPoison (Huang et al., NeurIPS 2020, arXiv 2004.00225). Poison by differentiating through a few steps of training.

The loss of the wanted label after `unroll` steps on the poison is lowered, over an ensemble of models of staggered ages that go
on training on the poison meanwhile. Experimental: published for victims trained from scratch on CIFAR-10; on small models its
success is uncertain.

Cost: `steps` x `models` derivatives through `unroll` + 1 backward passes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from attacks.kit.aim import Aim, check_targeted, take_aim
from attacks.kit.backdoor import check_images
from attacks.kit.descent import adam_descent
from attacks.kit.rows import attacked, replace
from poisonbench import training
from poisonbench.checks import check_fraction
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.notes import attach
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class MetaPoison:
    """Changes rows of the wanted class within eps so that a few steps on them turn one test point.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogate's runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of Adam.
        lr: learning rate of Adam, as a fraction of eps.
        unroll: training steps that are differentiated through.
        models: of the ensemble, at ages spread evenly over a training run.
        surrogate: the recipe of the attacker's models; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    clean_label = True
    experimental = True

    source: int | None = None
    target: int | None = None
    budget: float = 0.01
    eps: float = 8 / 255
    steps: int = 60
    lr: float = 0.1
    unroll: int = 2
    models: int = 8
    surrogate: Recipe | None = None

    def __post_init__(self) -> None:
        check_targeted(self, "unroll", "models")
        check_fraction("lr", self.lr)

    @property
    def surrogates(self) -> int:
        """Models that choose the point; the ensemble is another."""
        return 1

    def __call__(self, train: Dataset, test: Dataset, recipe: Recipe, seed: int) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: the instances are no images, or there is no point or row of a class it needs.
            PoisonError: rule "label", `source` or `target` is no class.
        """
        check_images(train, self)
        aim = take_aim(self, train, test, recipe, seed)
        look_ahead = _LookAhead(self, train, test.x[aim.point], aim, self.surrogate or recipe, seed)
        poison, curve = adam_descent(
            look_ahead,
            train.x[aim.rows],
            eps=self.eps,
            steps=self.steps,
            lr=self.lr * self.eps,
            what="metapoison",
        )
        attach("objective", curve[None])
        return Poisoned(
            *replace(train, aim.rows, poison, train.y[aim.rows]),
            *attacked(test, aim.point, aim.wanted),
        )


class _LookAhead:
    """The adversarial loss after `unroll` steps, the mean over the ensemble; each call also trains the ensemble for a step."""

    def __init__(
        self, attack: MetaPoison, train: Dataset, point: Tensor, aim: Aim, own: Recipe, seed: int
    ) -> None:
        self.attack, self.train, self.point, self.aim, self.own, self.seed = (
            attack,
            train,
            point,
            aim,
            own,
            seed,
        )
        self.form, k = aim.models[0], attack.models
        # section 2.3: model k begins after k / K of a training run
        self.starts = [
            training.starting_model(own, train, derive(seed, "ensemble", i)) for i in range(k)
        ]
        self.ensemble = [_trained(model) for model in self.starts]
        run = training.train(train, own, derive(seed, "ages"))
        self.lifetime = len(run.lr)
        self.ages = [self.lifetime * i // k for i in range(k)]
        for i, age in enumerate(self.ages):
            past = [c for c in run.checkpoints if c.step <= age]
            if past:
                self.ensemble[i] = {name: past[-1].state[name].clone() for name in self.ensemble[i]}

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Returns the mean loss for the poison x, (k, *shape), at step t."""
        losses = []
        for i, start in enumerate(self.ensemble):
            theta: Parameters = {name: value.requires_grad_() for name, value in start.items()}
            for u in range(self.attack.unroll):
                theta = self._step(theta, x, (t, i, u), create_graph=True)
            losses.append(carlini_wagner(self._logits(theta, self.point), self.aim.wanted))
        self._grow(x.detach(), t)
        return torch.stack(losses).mean()

    def _logits(self, theta: Parameters, x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.form, theta, (x,))
        return logits

    def _step(
        self, theta: Parameters, x: Tensor, draw: tuple[int, int, int], create_graph: bool = False
    ) -> Parameters:
        """Returns the parameters after a step of SGD on a batch, a quarter of which, at most, is poison."""
        g = generator(self.seed, "metapoison", *draw)
        size = min(self.own.batch_size, len(self.train))
        some = torch.randperm(len(x), generator=g)[: max(1, size // 4)].to(x.device)
        rest = torch.randint(len(self.train), (size - len(some),), generator=g).to(x.device)
        rest = rest[~torch.isin(rest, self.aim.rows)]
        inputs = torch.cat([x[some], self.train.x[rest]])
        loss = F.cross_entropy(
            self._logits(theta, inputs),
            torch.cat([self.train.y[self.aim.rows[some]], self.train.y[rest]]),
        )
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=create_graph)
        return {
            name: p - self.own.lr * d for (name, p), d in zip(theta.items(), grads, strict=True)
        }

    def _grow(self, x: Tensor, t: int) -> None:
        """Trains every model for a step; one at the end of its life begins anew, as another start."""
        for i, theta in enumerate(self.ensemble):
            self.ages[i] += 1
            if self.ages[i] >= self.lifetime:
                self.ages[i] = 0
                fresh = training.starting_model(
                    self.own, self.train, derive(self.seed, "ensemble", i, t)
                )
                self.ensemble[i] = _trained(fresh)
                continue
            after = self._step(
                {name: p.detach().requires_grad_() for name, p in theta.items()}, x, (t, i, -1)
            )
            self.ensemble[i] = {name: p.detach() for name, p in after.items()}


def _trained(model: nn.Module) -> Parameters:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def carlini_wagner(logits: Tensor, wanted: Tensor) -> Tensor:
    """Returns max(largest other logit - wanted logit, 0), the mean over points: logits (m, C), wanted (m,)."""
    own = logits.gather(1, wanted[:, None]).squeeze(1)
    others = logits.scatter(1, wanted[:, None], -torch.inf).amax(1)
    return (others - own).clamp(min=0).mean()
