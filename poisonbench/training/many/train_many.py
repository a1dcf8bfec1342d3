"""Bulk training: K models on subsets of one training set, many at once, as `train` trains each.

Cost: O(K T) steps of a batch; on one core the perceptrons of the digits train 20 times faster than
one after another. Memory: three copies of the parameters of a block of models, and the states that
are kept.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from poisonbench.checks import check_type, check_whole
from poisonbench.data import Dataset
from poisonbench.functional import finite_names
from poisonbench.memory import halving
from poisonbench.models.form import batch_layers
from poisonbench.training.given.running import run_each
from poisonbench.training.guards import (
    check_arguments,
    check_batch_sizes,
    tell_diverged,
)
from poisonbench.training.many.batches import (
    Batches,
    Convention,
    check,
    inputs_of,
    present_rows,
)
from poisonbench.training.many.blocks import block_size, split_blocks
from poisonbench.training.many.cache import Shelf, finite, make_blocks
from poisonbench.training.many.choice import way_of
from poisonbench.training.many.descent import Job, trained
from poisonbench.training.many.ensemble import Ensemble
from poisonbench.training.many.stacked import (
    States,
    joined,
    outputs_of,
    predictions,
    split,
)
from poisonbench.training.recipe import Recipe


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
    """Trains K models, each on its own instances, where the data lies, in the dtype of data.x.

    Args:
        data: n training instances.
        masks: (K, n) bool, the instances of each model; the others have weight exactly 0. Sizes may
            differ.
        recipe: hyperparameters. Frozen features (transfer) are computed once, and only the heads
            are stacked.
        seeds: K ints, of initialisation and batch order.
        batches: "own": model k walks the batches of its own n_k instances: it is
            `train(data.take(masks[k]), recipe, seeds[k])`, up to rounding. "full": it walks the
            batches of the run on all n instances, without those that it lacks, so that models of
            equal seeds differ by their instances alone (paired runs).
        convention: with "full", what the mean of a batch is over: "B" the instances present, "A"
            all b of the batch, absent terms deleted. A batch with none of the model's instances
            has the gradient 0; decay and momentum go on.
        points: keep the predictions on these points alone, (K, m, C) numbers, and not the models.
        scratch: folder for blocks of finished models, each whole or absent: the same call goes on
            from them to the same result, bit for bit. None keeps nothing.

    Returns:
        The K models. A model without instances is the untrained one. One that diverged predicts
        NaN, and a warning counts them.

    Raises:
        TypeError: an argument of another type.
        ValueError: masks, seeds, batches or convention are not as above, or no training instance.
        ConfigError: the model's BatchNorm needs two rows, and a batch of some model holds one.
    """
    check_arguments(data, recipe, 0)
    check_type("masks", masks, Tensor, "a (K, n) tensor of bool")
    check_type("seeds", seeds, Sequence, "K whole numbers")
    for seed in seeds:
        check_whole("each of the seeds", seed)
    if points is not None:
        check_type("points", points, Dataset, "a poisonbench.data.Dataset")
    masks = masks.cpu()
    check(len(data), masks, seeds, batches, convention)
    if recipe.loop is not None:
        return run_each(data, masks, recipe, seeds, convention, points, scratch)
    frozen, model = split(recipe, data, seeds[0])
    if batch_layers(model):
        _check_rows(data, masks, recipe, seeds, batches)
    features = outputs_of(frozen, data.x)
    inputs = inputs_of(data, features)
    targets = None
    if points is not None:
        targets = outputs_of(frozen, points.to(data.x.device, data.dtype).x)
    way = None
    if not recipe.mixed_precision:  # stacked models compute in one precision
        way = way_of(model, inputs.x, recipe.batch_size)
    epochs = len(masks) * recipe.epochs
    with tqdm(
        total=epochs,
        desc="training models",
        unit="epoch",
        disable=None,
    ) as bar:
        job = Job(
            data=inputs,
            recipe=recipe,
            watched=finite_names(model),
            start=lambda seed: split(recipe, data, seed)[1],
            way=way,
            batches=batches,
            convention=convention,
            points=targets,
            bar=bar,
        )
        size = block_size(model, inputs.x, recipe, way)
        blocks = split_blocks(masks, recipe, batches, size)
        shelf = Shelf.of(scratch, data, recipe, points, f"{batches} {convention}")
        make = partial(_train_block, job)
        parts, diverged = make_blocks(
            shelf, blocks, masks, seeds, make, job.watched, bar
        )
    tell_diverged(diverged)
    return Ensemble(
        masks=masks,
        seeds=tuple(seeds),
        recipe=recipe,
        train=data,
        diverged=diverged,
        parts=parts,
        points=None if points is None else len(points),
    )


def _check_rows(
    data: Dataset,
    masks: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    batches: Batches,
) -> None:
    """Refuses models of which a batch holds a single row; one without any takes a row along."""
    rows = list(present_rows(masks, recipe, seeds, batches))
    if rows:
        check_batch_sizes(data, recipe, torch.cat(rows).clamp(min=1))


def _train_block(
    job: Job,
    masks: Tensor,
    seeds: list[int],
) -> States:
    """Returns what is kept of k models that take equally many steps, on the CPU."""

    def run(size: int) -> States:
        kept = []
        for first in range(0, len(seeds), size):
            part = slice(first, first + size)
            states = trained(job, masks[part], seeds[part])
            kept.append(_keep(job, states))
        return joined(kept, torch.cat)

    return halving(run, len(seeds))


def _keep(job: Job, states: States) -> States:
    """Returns the states on the CPU, or the predictions alone, "logits" -> (k, m, C)."""
    if job.points is None:
        return {name: value.detach().cpu() for name, value in states.items()}
    model = job.start(0)
    way = way_of(model, job.points, len(job.points))
    logits = predictions(model, way, states, job.points).cpu()
    lost = ~finite(states, job.watched)
    logits[lost.cpu()] = torch.nan
    return {"logits": logits}
