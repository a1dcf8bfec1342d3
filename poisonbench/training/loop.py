"""Training: one loop of SGD that `train` records and `replay` walks again bit for bit. Cost: O(T) forward and backward passes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.errors import DivergedError
from poisonbench.seeding import derive, exact_arithmetic, seed_global
from poisonbench.training.recipe import (
    Recipe,
    batch_order,
    learning_rates,
    starting_model,
    training_mode,
)
from poisonbench.training.trace import Checkpoint, Trace


@dataclass(frozen=True, eq=False)
class Step:
    """A step about to be taken.

    Attributes:
        index: t in [0, T).
        model: theta_t, live: read it before asking for the next step, and do not change it.
        rows: (b,) int64, the training instances of the batch, on their device.
        lr: eta_t.
    """

    index: int
    model: nn.Module
    rows: Tensor
    lr: float


def _walk(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    plan: tuple[Tensor, Tensor],
    losses: Tensor,
    shares: Sequence[float] | None = None,
) -> Iterator[Step]:
    """The one training loop: yields every step of `plan` = (batches, lr) before taking it; fills losses (T,).

    `shares`, T numbers, multiply the mean loss of each batch; None for 1.
    """
    batches, lr = plan
    trained = [p for p in model.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(
        trained,
        lr=1.0,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    resident, sizes, rates = batches.to(data.y.device), (batches >= 0).sum(1).tolist(), lr.tolist()
    devices = [data.x.device] if data.x.is_cuda else []
    for t, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
        rows = resident[t, :size]
        yield Step(t, model, rows, rate)
        # dropout draws from the global generators: seeded by step, so that any replay draws the same, and put back
        with torch.random.fork_rng(devices=devices), exact_arithmetic(), torch.enable_grad():
            seed_global(derive(seed, "step", t), data.x.device)
            training_mode(model, recipe)
            loss = F.cross_entropy(model(data.x[rows]), data.y[rows])
            sgd.zero_grad()
            (loss if shares is None else loss * shares[t]).backward()
            sgd.param_groups[0]["lr"] = rate
            sgd.step()
            losses[t] = loss.detach()
            model.eval()


def train(data: Dataset, recipe: Recipe, seed: int) -> Trace:
    """Trains a model from its start where the data lies, in the dtype of data.x.

    Bit-equal for equal seeds on one device and number of threads.

    Args:
        data: n training instances.
        recipe: hyperparameters.
        seed: of the initialisation and of the order of the batches.

    Raises:
        DivergedError: the loss or a parameter is no longer finite, checked at the end of every epoch.
        ConfigError: the pretrained state of the recipe does not fit its model.
    """
    batches = batch_order(len(data), recipe, seed)
    lr = learning_rates(len(batches), recipe)
    steps, per_epoch = len(batches), len(batches) // recipe.epochs
    model = starting_model(recipe, data, seed)
    losses = torch.zeros(steps, dtype=data.x.dtype, device=data.x.device)
    keep = {math.ceil(steps * k / recipe.checkpoints) for k in range(1, recipe.checkpoints + 1)}
    checkpoints: list[Checkpoint] = []

    def after(taken: int) -> None:
        if taken and taken % per_epoch == 0:
            _check_finite(model, losses[:taken], taken // per_epoch)
        if taken in keep:
            state = {name: value.detach().clone() for name, value in model.state_dict().items()}
            checkpoints.append(Checkpoint(taken, float(lr[taken - 1]), state))

    for step in _walk(model, data, recipe, seed, (batches, lr), losses):
        after(step.index)
    after(steps)
    curve = losses.view(recipe.epochs, per_epoch).mean(1).cpu()
    return Trace(data, recipe, seed, batches, lr, tuple(checkpoints), curve)


def _check_finite(model: nn.Module, losses: Tensor, epoch: int) -> None:
    finite = losses.isfinite().all()
    for value in model.parameters():
        finite = finite & value.isfinite().all()
    if not bool(finite):
        raise DivergedError(epoch)


def retrain(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    plan: tuple[Tensor, Tensor],
    shares: Sequence[float],
) -> None:
    """Trains a model in place on given batches.

    Args:
        model: the starting model, on the device of the data.
        data: the instances that the batches name.
        recipe: hyperparameters.
        seed: of what layers draw.
        plan: batches (T, B) int64, -1 pads, none empty, and learning rates (T,).
        shares: T numbers by which the mean loss of each batch is multiplied.

    Raises:
        DivergedError: the loss or a parameter is no longer finite, checked at the end.
    """
    losses = data.x.new_zeros(len(plan[0]))
    for _ in _walk(model, data, recipe, seed, plan, losses, shares):
        pass
    _check_finite(model, losses, recipe.epochs)


def replay(trace: Trace) -> Iterator[Step]:
    """Trains `trace` again and yields every step before it is taken; the parameters are those of the run, bit for bit.

    Cost: one training run, O(p) memory. The model of the last yielded step is the live one: once the iterator is
    exhausted, it holds the final parameters.
    """
    plan = (trace.batches, trace.lr)
    losses = torch.zeros(len(trace.lr), dtype=trace.train.x.dtype, device=trace.train.x.device)
    return _walk(trace.initial(), trace.train, trace.recipe, trace.seed, plan, losses)
