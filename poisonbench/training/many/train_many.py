"""Bulk training: K models on subsets of one training set, many at once, with the semantics of `train`.

Cost: O(K T) steps of a batch; on one core the perceptrons of the digits train 20 times faster than one after another. Memory:
three copies of the parameters of a block of models, and the states that are kept.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd
from tqdm import tqdm

from poisonbench.data import Dataset
from poisonbench.errors import DivergedError
from poisonbench.memory import halving
from poisonbench.models import predict
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.loop import retrain
from poisonbench.training.many.batches import Batches, Convention, check, epochs
from poisonbench.training.many.cache import Shelf, States
from poisonbench.training.many.ensemble import Ensemble, Part
from poisonbench.training.many.stacked import (
    Network,
    logit_gradients,
    predictions,
    split,
    stacked,
    way_of,
)
from poisonbench.training.recipe import Recipe, epoch_steps, learning_rates

CPU, CUDA = (
    8 << 20,
    4 << 30,
)  # bytes of parameters, momentum and gradients of a block; on a CPU what its cache holds
LARGEST = 256  # models of a block on a CPU
RESIDENT = (
    1 << 30
)  # bytes of finished models kept in memory; more are read from the scratch folder at need


@dataclass(frozen=True, eq=False)
class _Job:
    """What all blocks share; data, start and points are of what is trained, behind features that are frozen."""

    data: Dataset
    recipe: Recipe
    start: Callable[[int], nn.Module]
    batches: Batches
    convention: Convention
    points: Tensor | None
    bar: "tqdm[None]"


def train_many(
    data: Dataset,
    masks: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    batches: Batches = "own",
    convention: Convention = "B",
    points: Dataset | None = None,
    scratch: Path | None = None,
) -> Ensemble:
    """Trains K models, each on its own instances, where the data lies and in the dtype of data.x.

    Args:
        data: n training instances.
        masks: (K, n) bool, the instances of each model; the others have weight exactly 0. Sizes may differ.
        recipe: hyperparameters. Frozen features (transfer) are computed once, and only the heads are stacked.
        seeds: K ints, of initialisation and batch order.
        batches: "own": model k walks the batches of its own n_k instances: it is `train(data.take(masks[k]), recipe, seeds[k])`,
            up to rounding. "full": it walks the batches of the run on all n instances, without those that it lacks, so that
            models of equal seeds differ by their instances alone (paired runs).
        convention: with "full", what the mean of a batch is over: "B" the instances present, "A" all b of the batch, absent
            terms deleted. A batch with none of the model's instances has the gradient 0; decay and momentum go on.
        points: keep the predictions on these points alone, (K, m, C) numbers, and not the models.
        scratch: folder for blocks of finished models, each whole or absent: the same call goes on from them to the same result,
            bit for bit. None keeps nothing.

    Returns:
        The K models. A model without instances is the untrained one. One that diverged predicts NaN, and a warning counts them.

    Raises:
        ValueError: masks, seeds, batches or convention are not as above.
    """
    masks = masks.cpu()
    check(len(data), masks, seeds, batches, convention)
    frozen, model = split(recipe, data, seeds[0])
    inputs = Dataset(predict(frozen, data.x), data.y, data.classes)
    targets = None if points is None else predict(frozen, points.x.to(data.x))
    blocks = _blocks(model, inputs, masks, recipe, batches)
    shelf = Shelf.of(scratch, data, recipe, points, f"{batches} {convention}")
    parts, diverged, resident = [], torch.zeros(len(masks), dtype=torch.bool), 0
    with tqdm(
        total=len(masks) * recipe.epochs, desc="training models", unit="epoch", disable=None
    ) as bar:
        job = _Job(
            inputs,
            recipe,
            lambda seed: split(recipe, data, seed)[1],
            batches,
            convention,
            targets,
            bar,
        )
        for i, rows in enumerate(blocks):
            chosen = [seeds[k] for k in rows.tolist()]
            states, read = shelf.find(
                masks[rows], chosen, partial(_train_block, job, masks[rows], chosen)
            )
            resident += sum(value.nbytes for value in states.values())
            parts.append(
                Part(rows, read if read and resident > RESIDENT else partial(dict, states))
            )
            diverged[rows] = ~_finite(states)
            bar.update(recipe.epochs * sum(map(len, blocks[: i + 1])) - bar.n)
    if count := int(diverged.sum()):
        first = int(diverged.nonzero()[0])
        warnings.warn(
            f"{count} of {len(masks)} models diverged, the first is {first}: they predict NaN",
            stacklevel=2,
        )
    return Ensemble(
        masks,
        tuple(seeds),
        recipe,
        data,
        diverged,
        tuple(parts),
        None if points is None else len(points),
    )


def _blocks(
    model: nn.Module, data: Dataset, masks: Tensor, recipe: Recipe, batches: Batches
) -> list[Tensor]:
    """Returns the models of each block, (k,) int64: those that take equally many steps, as many as the memory holds."""
    if way_of(model, data.x, recipe.batch_size) is None:
        size = 1
    else:
        bytes_each = 3 * sum(
            p.numel() * p.element_size() for p in model.parameters() if p.requires_grad
        )
        size = (
            max(1, CUDA // bytes_each)
            if data.x.is_cuda
            else max(4, min(LARGEST, CPU // bytes_each))
        )
    counts = masks.sum(1)
    full = torch.full_like(counts, len(data)) if batches == "full" else counts
    steps = torch.tensor(
        [
            epoch_steps(n, recipe) if own else 0
            for n, own in zip(full.tolist(), counts.tolist(), strict=True)
        ]
    )
    groups = [(steps == s).nonzero().squeeze(1) for s in steps.unique().tolist()]
    return [part for group in groups for part in group.tensor_split(-(-len(group) // size))]


def _train_block(job: _Job, masks: Tensor, seeds: list[int]) -> States:
    """Returns what is kept of k models that take equally many steps, on the CPU."""

    def run(size: int) -> States:
        kept = [
            _keep(job, _trained(job, m, s))
            for m, s in zip(masks.split(size), _split(seeds, size), strict=True)
        ]
        return {name: torch.cat([states[name] for states in kept]) for name in kept[0]}

    return halving(run, len(seeds))


def _split(seeds: list[int], size: int) -> list[list[int]]:
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def _keep(job: _Job, states: States) -> States:
    if job.points is None:
        return {name: value.detach().cpu() for name, value in states.items()}
    logits = predictions(job.start(0), states, job.points).cpu()
    logits[~_finite(states).cpu()] = torch.nan
    return {"logits": logits}


def _finite(states: States) -> Tensor:
    """Returns (k,) bool: whether every number of a model is finite."""
    flags = [value.detach().reshape(len(value), -1).isfinite().all(1) for value in states.values()]
    return torch.stack(flags).all(0)


def _trained(job: _Job, masks: Tensor, seeds: list[int]) -> States:
    """Returns the stacked states of k models, where the data lies."""
    if not bool(masks.any()):
        return stacked(job.start, seeds)
    model = job.start(seeds[0])
    way = way_of(model, job.data.x, job.recipe.batch_size)
    if way is None:
        alone = [
            _one_by_one(job, mask[None], seed) for mask, seed in zip(masks, seeds, strict=True)
        ]
        return {name: torch.stack([state[name] for state in alone]) for name in alone[0]}
    states = stacked(job.start, seeds)
    _descend(job, states, way(model, states), masks, seeds)
    return states


def _descend(job: _Job, states: States, network: Network, masks: Tensor, seeds: list[int]) -> None:
    """Trains the leaves of `states` in place: the steps of `train`, taken by all models together."""
    data, recipe = job.data, job.recipe
    leaves = [value for value in states.values() if value.requires_grad]
    momentum: list[Tensor | None] = [None] * len(leaves)
    fixed: dict[str, Any] = {
        "weight_decay": recipe.weight_decay,
        "momentum": recipe.momentum,
        "nesterov": recipe.nesterov,
    }
    update: Callable[..., None] = partial(
        sgd,
        leaves,
        momentum_buffer_list=momentum,
        fused=True,
        dampening=0.0,
        maximize=False,
        **fixed,
    )
    rates: list[float] = []
    inputs = network.prepare(data.x)
    for epoch, (rows, weights) in enumerate(
        epochs(masks, recipe, seeds, job.batches, job.convention)
    ):
        K, steps, width = rows.shape
        rates = rates or learning_rates(recipe.epochs * steps, recipe).tolist()
        rows, weights = (
            rows.transpose(0, 1).to(data.y.device).contiguous(),
            weights.transpose(0, 1).to(data.x).contiguous(),
        )
        with exact_arithmetic(), torch.no_grad():
            for t in range(steps):
                flat = rows[t].flatten()
                x = inputs.index_select(0, flat).unflatten(0, (K, width))
                y = data.y.index_select(0, flat).view(K, width)
                network.backward(logit_gradients(network.logits(x), y, weights[t]))
                update(
                    [leaf.grad for leaf in leaves if leaf.grad is not None],
                    lr=rates[epoch * steps + t],
                )
        job.bar.update(K)


def _one_by_one(job: _Job, mask: Tensor, seed: int) -> States:
    """Returns the state of one model, by the loop of `train`; NaN if it diverged."""
    data, recipe = job.data, job.recipe
    plans = list(epochs(mask, recipe, [seed], job.batches, job.convention))
    rows, weights = (torch.cat([plan[i][0] for plan in plans]) for i in (0, 1))  # (T, B)
    rates = learning_rates(len(rows), recipe)
    absent = weights == 0
    absent[:, 0] &= ~absent.all(1)  # a batch needs one instance, if with share 0
    order = absent.to(torch.uint8).argsort(stable=True, dim=1)
    packed = torch.where(absent, -1, rows).gather(1, order)
    model = job.start(seed)
    try:
        retrain(model, data, recipe, seed, (packed, rates), weights.sum(1).tolist())
    except DivergedError:
        return {
            name: torch.full_like(v, torch.nan) if v.is_floating_point() else v
            for name, v in model.state_dict().items()
        }
    job.bar.update(recipe.epochs)
    return {name: value.detach() for name, value in model.state_dict().items()}
