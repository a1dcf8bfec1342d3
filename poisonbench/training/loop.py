"""Training: one loop that `train` records and `replay` walks again bit for bit.

Cost: O(T) forward and backward passes.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.device.mixed import mixed_precision
from poisonbench.functional import finite_names
from poisonbench.seeding import Outside, derive, drawing, exact_arithmetic
from poisonbench.training.augment import presented, training_layout
from poisonbench.training.checkpoint import Checkpoint
from poisonbench.training.given.running import run
from poisonbench.training.guards import (
    check_arguments,
    check_batch_sizes,
    check_final,
    check_finite,
    check_rebuilt,
)
from poisonbench.training.optimizer import optimizer_of
from poisonbench.training.order import batch_order, learning_rates
from poisonbench.training.recipe import (
    Recipe,
    starting_model,
    training_mode,
)
from poisonbench.training.steps import Plan, Step
from poisonbench.training.trace import Trace, check_trace


def _walk(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    plan: Plan,
    losses: Tensor,
) -> Iterator[Step]:
    """The one training loop: yields every step of `plan` before taking it; fills losses (T,)."""
    device = data.x.device
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizer_of(trained, recipe)
    batches = plan.batches.to(data.y.device)
    sizes = (plan.batches >= 0).sum(1).tolist()
    outside = Outside()
    layout = training_layout(model, data)
    for t, rate in enumerate(plan.lr.tolist()):
        rows = batches[t, : sizes[t]]
        yield Step(t, model, rows, rate)
        # layers such as dropout draw from the global generators: seeded by step, so that any
        # replay draws the same, and put back
        draw = derive(seed, "step", t)
        with (
            drawing(draw, device),
            outside.drawing(draw),
            exact_arithmetic(),
            torch.enable_grad(),
        ):
            training_mode(model, recipe)
            x = presented(data, rows, recipe, seed, t, layout, plan.places)
            with mixed_precision(device, recipe.mixed_precision):
                logits = model(x)
            loss = F.cross_entropy(
                logits.to(data.dtype),
                data.y[rows],
                label_smoothing=recipe.label_smoothing,
            )
            optimizer.zero_grad()
            descended = loss
            if plan.shares is not None:
                descended = loss * plan.shares[t]
            descended.backward()
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            losses[t] = loss.detach()
            model.eval()


def train(
    data: Dataset,
    recipe: Recipe,
    seed: int,
) -> Trace:
    """Trains a model from its start where the data lies, in the dtype of data.x.

    Bit-equal for equal seeds on one device and number of threads.

    Args:
        data: n training instances.
        recipe: hyperparameters.
        seed: of the initialisation and of the order of the batches.

    Raises:
        DivergedError: the loss, a parameter or a buffer is no longer finite, checked at the end
            of every epoch.
        ConfigError: the pretrained state of the recipe does not fit its model, a batch has one
            row where the model's BatchNorm needs two, or the recipe augments what are no images,
            or mixes the precision of what is not float32.
        TypeError: an argument of another type.
        ValueError: no training instance.
    """
    check_arguments(data, recipe, seed)
    if recipe.loop is not None:
        return run(data, recipe, seed)
    batches = batch_order(len(data), recipe, seed)
    check_batch_sizes(data, recipe, (batches >= 0).sum(1))
    plan = Plan(batches, learning_rates(len(batches), recipe))
    steps = len(batches)
    per_epoch = steps // recipe.epochs
    model = starting_model(recipe, data, seed)
    watched = finite_names(model)
    losses = data.zeros(steps)
    keep = _kept_steps(steps, recipe.checkpoints)
    checkpoints: list[Checkpoint] = []

    def after(taken: int) -> None:
        if taken and taken % per_epoch == 0:
            check_finite(model, watched, losses[:taken], taken // per_epoch)
        if taken in keep:
            checkpoint = Checkpoint(
                step=taken,
                lr=float(plan.lr[taken - 1]),
                state=_copied(model.state_dict()),
            )
            checkpoints.append(checkpoint)

    for step in _walk(model, data, recipe, seed, plan, losses):
        after(step.index)
    after(steps)
    curve = losses.view(recipe.epochs, per_epoch).mean(1)
    trace = Trace(
        train=data,
        recipe=recipe,
        seed=seed,
        batches=batches,
        lr=plan.lr,
        checkpoints=tuple(checkpoints),
        losses=curve.cpu(),
    )
    check_rebuilt(trace, model)
    return trace


def _kept_steps(steps: int, checkpoints: int) -> set[int]:
    """Returns after how many steps checkpoints are kept: evenly spaced, the last at the end."""
    kept = set()
    for k in range(1, checkpoints + 1):
        share = steps * k / checkpoints
        kept.add(math.ceil(share))
    return kept


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def retrain(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    plan: Plan,
) -> None:
    """Trains a model in place on given batches.

    Args:
        model: the starting model, on the device of the data.
        data: the instances that the batches name.
        recipe: hyperparameters.
        seed: of what layers draw.
        plan: the steps.

    Raises:
        DivergedError: the loss, a parameter or a buffer is no longer finite, checked at the end.
    """
    watched = finite_names(model)
    losses = data.zeros(len(plan.batches))
    for _ in _walk(model, data, recipe, seed, plan, losses):
        pass
    check_finite(model, watched, losses, recipe.epochs)


def replay(trace: Trace) -> Iterator[Step]:
    """Trains `trace` again and yields every step before it is taken.

    Cost: one training run, O(p) memory. The model of the last yielded step is the live one: once
    the iterator is exhausted, it holds the final parameters, which are compared with those of the
    run bit for bit.

    Raises:
        TypeError: `trace` is no Trace.
        ReplayError: at the end, the parameters or buffers are others than those of the run.
    """
    check_trace(trace)
    return _replayed(trace)


def _replayed(trace: Trace) -> Iterator[Step]:
    data = trace.train
    model = trace.initial()
    plan = trace.by_step
    losses = data.zeros(len(plan.lr))
    yield from _walk(model, data, trace.by_recipe, trace.seed, plan, losses)
    check_final(trace, model.state_dict())
