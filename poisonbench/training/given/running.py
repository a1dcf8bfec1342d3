"""Runs of someone else's loop: one, and many on subsets, one after another.

Cost: that of the loop, K times for K models.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.functional import finite_names, whole_state
from poisonbench.models import predict
from poisonbench.models.wrap import as_given
from poisonbench.notes import note
from poisonbench.seeding import Outside, derive, drawing, exact_arithmetic
from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.given.fitting import check_numbers
from poisonbench.training.given.states import checkpoints_of
from poisonbench.training.guards import tell_diverged
from poisonbench.training.many.cache import Shelf, make_blocks
from poisonbench.training.many.ensemble import Ensemble
from poisonbench.training.many.stacked import States, joined
from poisonbench.training.recipe import Recipe, starting_model, training_mode
from poisonbench.training.trace import Trace

BLOCK = 16  # models that share a file of the scratch folder
YIELDS = "it yields (step, lr, state), ..., or returns a list of them"


def run(data: Dataset, recipe: Recipe, seed: int) -> Trace:
    """Trains by the loop of a recipe that names one, where the data lie.

    Args:
        data: n training instances.
        recipe: with a loop of someone else's.
        seed: of the model, of the global generators, and for the loop itself.

    Raises:
        ConfigError: the loop does not give states of the model, or diverges.
    """
    checkpoints = _checkpoints(data, recipe, seed)
    check_numbers(checkpoints, starting_model(recipe, data, seed))
    given = None
    if recipe.routine is not None:
        given = recipe.routine.form
    return Trace(
        train=data, checkpoints=checkpoints, seed=seed, recipe=recipe, given=given
    )


def _checkpoints(data: Dataset, recipe: Recipe, seed: int) -> tuple[Checkpoint, ...]:
    loop = recipe.loop
    assert loop is not None
    device = data.x.device
    model = as_given(starting_model(recipe, data, seed))
    training_mode(model, recipe)
    draw = derive(seed, "loop")
    with (
        drawing(draw, device),
        Outside().drawing(draw),
        exact_arithmetic(),
        torch.enable_grad(),
    ):
        found: object = loop(model, data, seed)
        if not isinstance(found, Iterable):
            kind = type(found).__name__
            raise ConfigError([f"the training function returned {kind}"], YIELDS)
        entries = list(_kept(found))
    if not entries:
        raise ConfigError(["the training function gave no state"], YIELDS)
    checkpoints = checkpoints_of(model, entries)
    unknown = [c.step for c in checkpoints if c.lr != c.lr]
    if unknown:
        told = f"the training function gave no learning rate with step {unknown[0]}"
        raise ConfigError([told], YIELDS)
    return checkpoints


def _kept(found: Iterable[Any]) -> Iterator[Any]:
    """Yields what a loop gives; where it is still running, copies, for the model goes on."""
    running = isinstance(found, Iterator)
    for entry in found:
        yield copy.deepcopy(entry) if running else entry


def run_each(
    data: Dataset,
    masks: Tensor,
    recipe: Recipe,
    seeds: Sequence[int],
    convention: str,
    points: Dataset | None = None,
    scratch: Path | None = None,
) -> Ensemble:
    """Trains K models by the loop of a recipe, each on its own instances: see `train_many`.

    Every model is `run(data.take(masks[k]), recipe, seeds[k])`: runs are paired by their seeds
    alone, and no batch is that of another run.

    Raises:
        ConfigError: convention "A", which keeps the divisor of a batch; or as `run`.
    """
    if convention == "A":
        raise ConfigError(
            ["convention 'A' needs the batches, which only our own loop tells"],
            "take convention 'B'",
        )
    note("trained_one_by_one", "the loop is someone else's")
    watched = finite_names(starting_model(recipe, data, seeds[0]))
    shelf = Shelf(None)
    if recipe.routine is None:  # what has no name cannot be told in a digest
        shelf = Shelf.of(scratch, data, recipe, points, "loop")
    blocks = torch.arange(len(masks)).split(BLOCK)
    make = partial(_block, data, recipe, points)
    with tqdm(total=len(masks), desc="training models", disable=None) as bar:
        parts, diverged = make_blocks(shelf, blocks, masks, seeds, make, watched, bar)
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


def _block(
    data: Dataset,
    recipe: Recipe,
    points: Dataset | None,
    masks: Tensor,
    seeds: list[int],
) -> States:
    """Returns what is kept of k models: their states, or "logits" -> (k, m, C), on the CPU."""
    kept = []
    for mask, seed in zip(masks, seeds, strict=True):
        model = starting_model(recipe, data, seed)
        if bool(mask.any()):
            final = _checkpoints(data.take(mask), recipe, seed)[-1]
            model.load_state_dict(final.state)
        state = {name: v.detach().cpu() for name, v in whole_state(model).items()}
        if points is not None:
            there = points.to(data.x.device, data.dtype)
            state = {"logits": predict(model, there.x).cpu()}
        kept.append(state)
    return joined(kept, torch.stack)
