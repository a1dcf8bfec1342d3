"""The steps of `train`, taken by many models together, or by one after another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from poisonbench.data import Dataset
from poisonbench.errors import DivergedError
from poisonbench.functional import whole_state
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.augment import drawn, moved
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
from poisonbench.training.optimizer import stacked_optimizer
from poisonbench.training.order import learning_rates
from poisonbench.training.recipe import Recipe
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


class Inputs:
    """What k models see of the instances: prepared once, or in every step where they are augmented.

    Attributes:
        prepared: (n, *shape) of the network; None where instances are augmented.
    """

    def __init__(self, job: Job, network: Network, seeds: list[int]) -> None:
        self.job = job
        self.network = network
        self.seeds = seeds
        self.prepared: Tensor | None = None
        if job.recipe.augment == "none":
            self.prepared = network.prepare(job.data.x)

    def of(self, rows: Tensor, step: int) -> Tensor:
        """Returns what the network sees of the batches of a step, (k, B) rows -> (k, B, ...)."""
        flat = rows.flatten()
        if self.prepared is None:
            seen = self._augmented(flat, rows.shape[1], step)
        else:
            seen = self.prepared.index_select(0, flat)
        return seen.reshape(*rows.shape, *seen.shape[1:])

    def _augmented(self, flat: Tensor, width: int, step: int) -> Tensor:
        """Returns the instances `flat`, (k width,), as they are presented in a step."""
        data = self.job.data
        draws = {}
        for seed in dict.fromkeys(self.seeds):
            draws[seed] = drawn(data, self.job.recipe, seed, step)[:width]
        each = torch.cat([draws[seed] for seed in self.seeds])
        return self.network.prepare(moved(data.x.index_select(0, flat), each))


def _descend(
    job: Job,
    states: States,
    network: Network,
    masks: Tensor,
    seeds: list[int],
) -> None:
    """Trains the leaves of `states` in place: the steps of `train`, taken by all models."""
    data = job.data
    leaves = [value for value in states.values() if value.requires_grad]
    descent = stacked_optimizer(leaves, job.recipe)
    inputs = Inputs(job, network, seeds)
    there = masks.to(data.y.device)
    walked = epochs(there, job.recipe, seeds, job.batches, job.convention)
    for number, epoch in enumerate(walked):
        K, steps, width = epoch.rows.shape
        total = job.recipe.epochs * steps
        rates = learning_rates(total, job.recipe).tolist()
        rows = epoch.rows.transpose(0, 1).contiguous()
        weights = epoch.weights.transpose(0, 1).to(data.dtype)
        weights = weights.contiguous()
        with exact_arithmetic(), torch.no_grad():
            for t in range(steps):
                taken = number * steps + t
                x = inputs.of(rows[t], taken)
                y = data.y.index_select(0, rows[t].flatten()).view(K, width)
                logits = network.logits(x)
                smoothing = job.recipe.label_smoothing
                network.backward(logit_gradients(logits, y, weights[t], smoothing))
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
        places=order,
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
