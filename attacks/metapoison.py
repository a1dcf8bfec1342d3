"""MetaPoison (Huang et al., NeurIPS 2020, arXiv 2004.00225). Differentiates through training steps.

The loss of the wanted label after `unroll` steps on the poison is lowered, over an ensemble of
models of different starts and staggered ages that go on training on the poison meanwhile; the paper
has 24. Experimental: published for CIFAR-10 from scratch; on small models success is uncertain.

Cost: half a training run per model, then `steps` x `models` derivatives through `unroll` + 1
backward passes.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from attacks.kit.aim import Aim, OnePoint, take_aim
from attacks.kit.descent import adam_descent
from attacks.kit.member import Member, Parameters, member_of, partly_trained
from attacks.kit.rows import poison_in_place
from attacks.kit.surrogate import by_steps
from poisonbench import training
from poisonbench.checks import check_at_least, check_fraction
from poisonbench.contracts.kinds import check_kind
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.losses import each
from poisonbench.notes import attach
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe
from poisonbench.training.order import epoch_steps


@dataclass(frozen=True)
class MetaPoison(OnePoint):
    """Changes rows of the wanted class within eps so that a few steps on them turn one test point.

    Attributes:
        source: class of the attacked point; None for any.
        target: the label that the attacker wants; None for the surrogates' runner-up.
        budget: poisoned rows as a fraction of the training set.
        eps: radius of the max-norm ball around the clean rows, in pixel values of [0, 1].
        steps: of Adam.
        lr: learning rate of Adam, as a fraction of eps.
        unroll: training steps that are differentiated through.
        models: K, of the ensemble, each with a start of its own, after k / K of a training run.
        surrogate: the recipe of the attacker's models; None: the victim's (white box).

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    clean_label = True
    experimental = True
    surrogates = 1  # the model that chooses the point; the ensemble is another

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
        self.check_one_point()
        check_at_least("unroll", self.unroll, 1)
        check_at_least("models", self.models, 1)
        check_fraction("lr", self.lr)

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        """Poisons `train`.

        Raises:
            ConfigError: data of another kind, a recipe with a loop of its own, or there is no point
                or row of a class it needs.
            PoisonError: rule "label", `source` or `target` is no class.
        """
        check_kind(train, self)
        own = by_steps(self.surrogate or recipe)
        aim = take_aim(self, train, test, recipe, seed)
        poison, curve = adam_descent(
            _LookAhead(self, train, test.x[aim.point], aim, own, seed),
            train.x[aim.rows],
            eps=self.eps,
            steps=self.steps,
            lr=self.lr * self.eps,
            what="metapoison",
        )
        attach("objective", curve[None])
        return poison_in_place(
            train,
            test,
            rows=aim.rows,
            x=poison,
            points=aim.point,
            wanted=aim.wanted,
        )


class _LookAhead:
    """The adversarial loss after `unroll` steps, the mean over the ensemble.

    Each call also trains the ensemble for a step.

    Args:
        attack: its fields.
        train: n clean rows.
        point: (1, *shape), the attacked point.
        aim: the wanted label and the poisoned rows.
        own: the recipe of the ensemble's models.
        seed: of the attack.
    """

    def __init__(
        self,
        attack: MetaPoison,
        train: Dataset,
        point: Tensor,
        aim: Aim,
        own: Recipe,
        seed: int,
    ) -> None:
        self.attack = attack
        self.train = train
        self.point = point
        self.aim = aim
        self.rows = aim.rows.cpu()
        self.own = own
        self.seed = seed
        self.lifetime = own.epochs * epoch_steps(len(train), own)
        self.members = [self._begun(k) for k in range(attack.models)]

    def _begun(self, k: int) -> Member:
        """Returns member k, from a start of its own, after k / K of its run (section 2.3)."""
        age = self.lifetime * k // self.attack.models
        own_seed = derive(self.seed, "ensemble", k)
        model = partly_trained(self.train, self.own, own_seed, age)
        return member_of(model, age)

    def __call__(self, x: Tensor, t: int) -> Tensor:
        """Returns the mean loss for the poison x, (k, *shape), at step t."""
        losses = [self._loss(member, x, t, i) for i, member in enumerate(self.members)]
        self._grow(x.detach(), t)
        return torch.stack(losses).mean()

    def _loss(self, member: Member, x: Tensor, t: int, i: int) -> Tensor:
        """Returns the loss of member i at the point after `unroll` steps on the poison x."""
        theta = {name: p.requires_grad_() for name, p in member.theta.items()}
        for u in range(self.attack.unroll):
            draw = (t, i, u)
            theta = self._step(member, theta, x, draw, create_graph=True)
        logits = member.logits(theta, self.point)
        return carlini_wagner(logits, self.aim.wanted)

    def _step(
        self,
        member: Member,
        theta: Parameters,
        x: Tensor,
        draw: tuple[int, int, int],
        create_graph: bool = False,
    ) -> Parameters:
        """Returns the parameters after a step of SGD on a batch, at most a quarter of it poison."""
        batch = self._batch(x, draw)
        logits = member.logits(theta, batch.x)
        loss = each(self.own.descends, logits, batch.y).mean()
        leaves = list(theta.values())
        gradients = torch.autograd.grad(loss, leaves, create_graph=create_graph)
        after = {}
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            after[name] = p - self.own.lr * gradient
        return after

    def _batch(self, x: Tensor, draw: tuple[int, int, int]) -> Dataset:
        """Draws some of the poison x, (k, *shape), and clean rows beside it."""
        g = generator(self.seed, "metapoison", *draw)
        n = len(self.train)
        size = min(self.own.batch_size, n)
        most = max(1, size // 4)
        some = torch.randperm(len(x), generator=g)[:most]
        drawn = torch.randint(n, (size - len(some),), generator=g)
        rest = drawn[~torch.isin(drawn, self.rows)]
        # chosen on the CPU and sent once: a GPU is not waited for
        chosen = torch.cat([self.rows[some], rest]).to(x.device)
        batch = self.train.take(chosen)
        poison = x[some.to(x.device)]
        return replace(batch, x=torch.cat([poison, batch.x[len(some) :]]))

    def _grow(self, x: Tensor, t: int) -> None:
        """Trains every member for a step; one at the end of its life begins anew."""
        for i, member in enumerate(self.members):
            member.age += 1
            if member.age >= self.lifetime:
                seed = derive(self.seed, "ensemble", i, t)
                fresh = training.starting_model(self.own, self.train, seed)
                self.members[i] = member_of(fresh, 0)
                continue
            theta = {name: p.requires_grad_() for name, p in member.theta.items()}
            after = self._step(member, theta, x, draw=(t, i, -1))
            member.theta = {name: p.detach() for name, p in after.items()}


def carlini_wagner(logits: Tensor, wanted: Tensor) -> Tensor:
    """Returns max(largest other logit - wanted logit, 0), the mean over points.

    Args:
        logits: (m, C).
        wanted: (m,) int64.
    """
    column = wanted[:, None]
    own = logits.gather(1, column).squeeze(1)
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return (others - own).clamp(min=0).mean()
