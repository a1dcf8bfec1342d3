"""The steps of `train`, taken by many models together, or by one after another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd
from tqdm import tqdm

from poisonbench.data import Dataset
from poisonbench.errors import DivergedError
from poisonbench.functional import whole_state
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.loop import retrain
from poisonbench.training.many.batches import Batches, Convention, epochs
from poisonbench.training.many.stacked import (
    Network,
    States,
    Way,
    joined,
    logit_gradients,
    stacked,
)
from poisonbench.training.recipe import Recipe, learning_rates
from poisonbench.training.steps import Plan


@dataclass(frozen=True, eq=False)
class Job:
    """What all blocks of models share.

    Attributes:
        data: n training instances, as what is trained sees them: behind features that are frozen.
        recipe: hyperparameters.
        watched: names of what is finite at the start, and stays so unless training diverges.
        start: seed -> what is trained of the starting model.
        way: through many models at once; None for one after another.
        batches: "own" or "full", see `train_many`.
        convention: the divisor, see `train_many`.
        points: (m, *shape) whose predictions alone are kept, or None; as `data`.
        bar: counts epochs.
    """

    data: Dataset
    recipe: Recipe
    watched: frozenset[str]
    start: Callable[[int], nn.Module]
    way: Way | None
    batches: Batches
    convention: Convention
    points: Tensor | None
    bar: "tqdm[None]"


class Descent:
    """SGD on stacked states, by the operations of `torch.optim.SGD`.

    Attributes:
        leaves: the parameters of all models, (K, *shape) each.
        momentum: their buffers; None before the first step.
    """

    def __init__(self, states: States, recipe: Recipe) -> None:
        self.recipe = recipe
        self.leaves = [value for value in states.values() if value.requires_grad]
        self.momentum: list[Tensor | None] | None = None

    def step(self, rate: float) -> None:
        """Takes a step at this learning rate; a parameter without a gradient stays as it is."""
        used = []
        gradients = []
        for leaf in self.leaves:
            if leaf.grad is not None:
                used.append(leaf)
                gradients.append(leaf.grad)
        if self.momentum is None:
            self.momentum = [None] * len(used)
        sgd(
            used,
            gradients,
            self.momentum,
            fused=True,
            weight_decay=self.recipe.weight_decay,
            momentum=self.recipe.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.recipe.nesterov,
            maximize=False,
        )


def trained(
    job: Job,
    masks: Tensor,
    seeds: list[int],
) -> States:
    """Returns the stacked states of k models that take equally many steps, where the data lies."""
    if not bool(masks.any()):
        return stacked(job.start, seeds)
    if job.way is None:
        alone = []
        for mask, seed in zip(masks, seeds, strict=True):
            state = _one_by_one(job, mask[None], seed)
            alone.append(state)
        return joined(alone, torch.stack)
    states = stacked(job.start, seeds)
    network = job.way(job.start(seeds[0]), states)
    _descend(job, states, network, masks, seeds)
    return states


def _descend(
    job: Job,
    states: States,
    network: Network,
    masks: Tensor,
    seeds: list[int],
) -> None:
    """Trains the leaves of `states` in place: the steps of `train`, taken by all models."""
    data = job.data
    descent = Descent(states, job.recipe)
    inputs = network.prepare(data.x)
    walked = epochs(masks, job.recipe, seeds, job.batches, job.convention)
    for number, epoch in enumerate(walked):
        K, steps, width = epoch.rows.shape
        total = job.recipe.epochs * steps
        rates = learning_rates(total, job.recipe).tolist()
        rows = epoch.rows.transpose(0, 1).to(data.y.device)
        rows = rows.contiguous()
        weights = epoch.weights.transpose(0, 1).to(data.x.device, data.dtype)
        weights = weights.contiguous()
        with exact_arithmetic(), torch.no_grad():
            for t in range(steps):
                flat = rows[t].flatten()
                x = inputs.index_select(0, flat).unflatten(0, (K, width))
                y = data.y.index_select(0, flat).view(K, width)
                logits = network.logits(x)
                network.backward(logit_gradients(logits, y, weights[t]))
                taken = number * steps + t
                descent.step(rates[taken])
        job.bar.update(K)


def _one_by_one(
    job: Job,
    mask: Tensor,
    seed: int,
) -> States:
    """Returns the state of one model, by the loop of `train`; NaN if it diverged."""
    data = job.data
    recipe = job.recipe
    walked = list(epochs(mask, recipe, [seed], job.batches, job.convention))
    rows = torch.cat([epoch.rows[0] for epoch in walked])  # (T, B)
    weights = torch.cat([epoch.weights[0] for epoch in walked])
    absent = weights == 0
    absent[:, 0] &= ~absent.all(1)  # a batch needs one instance, if with share 0
    order = absent.to(torch.uint8).argsort(stable=True, dim=1)
    packed = torch.where(absent, -1, rows).gather(1, order)
    plan = Plan(
        batches=packed,
        lr=learning_rates(len(rows), recipe),
        shares=weights.sum(1).tolist(),
    )
    model = job.start(seed)
    try:
        retrain(model, data, recipe, seed, plan)
    except DivergedError:
        return {
            name: _not_a_number(value) for name, value in whole_state(model).items()
        }
    job.bar.update(recipe.epochs)
    return {name: value.detach() for name, value in whole_state(model).items()}


def _not_a_number(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    return torch.full_like(value, torch.nan, requires_grad=False)
