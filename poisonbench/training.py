"""Training: one loop of SGD that `train` records and `replay` walks again bit for bit. Cost: O(T) forward and backward passes."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.errors import DivergedError
from poisonbench.models import build
from poisonbench.seeding import derive, generator
from poisonbench.trace import Checkpoint, Trace

SCHEDULES = ("constant", "cosine", "one-cycle")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training run with SGD, in PyTorch's meaning of each.

    Attributes:
        model: name for `poisonbench.models.build`.
        epochs: passes over the training set.
        batch_size: instances of a step; the last batch of an epoch may be smaller.
        lr: peak learning rate.
        momentum: mu in [0, 1); the buffer starts without dampening.
        nesterov: Nesterov momentum.
        weight_decay: w, the gradient of (w/2)|theta|^2.
        schedule: "constant", "cosine" (to 0), or "one-cycle" (linear up over the first 30 % of the steps, then cosine to 0).
        checkpoints: number of checkpoints kept, evenly spaced over the steps; the last is the final model.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    model: str = "cnn"
    epochs: int = 20
    batch_size: int = 32
    lr: float = 0.05
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    checkpoints: int = 6

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoints"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {self.momentum}")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(f"weight_decay must be non-negative and finite, got {self.weight_decay}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0, got 0")


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


def batch_order(n: int, recipe: Recipe, seed: int) -> Tensor:
    """Returns (T, B) int64: a fresh permutation of the n instances an epoch, cut into batches, -1 pads."""
    g = generator(seed, "batches")
    width = min(recipe.batch_size, n)
    order = torch.full((recipe.epochs, math.ceil(n / width) * width), -1, dtype=torch.int64)
    for epoch in range(recipe.epochs):
        order[epoch, :n] = torch.randperm(n, generator=g)
    return order.view(-1, width)


def learning_rates(steps: int, recipe: Recipe) -> Tensor:
    """Returns (T,) float64, the learning rate of every step."""
    t = torch.arange(steps, dtype=torch.float64)
    if recipe.schedule == "constant":
        return torch.full_like(t, recipe.lr)
    warm = math.ceil(0.3 * steps) if recipe.schedule == "one-cycle" else 0
    up = (t + 1) / max(warm, 1)
    down = (1 + torch.cos(math.pi * (t - warm) / (steps - warm))) / 2
    return recipe.lr * torch.where(t < warm, up, down)


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Deterministic convolutions without TF32 while it lasts; the settings found are put back."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _walk(
    model: nn.Module, data: Dataset, recipe: Recipe, seed: int, plan: tuple[Tensor, Tensor], losses: Tensor
) -> Iterator[Step]:
    """The one training loop: yields every step of `plan` = (batches, lr) before taking it; fills losses (T,)."""
    batches, lr = plan
    sgd = torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay
    )
    resident, sizes, rates = batches.to(data.y.device), (batches >= 0).sum(1).tolist(), lr.tolist()
    devices = [data.x.device] if data.x.is_cuda else []
    for t, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
        rows = resident[t, :size]
        yield Step(t, model, rows, rate)
        # dropout draws from the global generators: seeded by step, so that any replay draws the same, and put back
        with torch.random.fork_rng(devices=devices), exact_arithmetic(), torch.enable_grad():
            torch.manual_seed(derive(seed, "step", t))
            model.train()
            loss = F.cross_entropy(model(data.x[rows]), data.y[rows])
            sgd.zero_grad()
            loss.backward()
            sgd.param_groups[0]["lr"] = rate
            sgd.step()
            losses[t] = loss.detach()
            model.eval()


def train(data: Dataset, recipe: Recipe, seed: int) -> Trace:
    """Trains a model from scratch where the data lies, in the dtype of data.x.

    Bit-equal for equal seeds on one device and number of threads.

    Args:
        data: n training instances.
        recipe: hyperparameters.
        seed: of the initialisation and of the order of the batches.

    Raises:
        DivergedError: the loss or a parameter is no longer finite, checked at the end of every epoch.
    """
    batches = batch_order(len(data), recipe, seed)
    lr = learning_rates(len(batches), recipe)
    steps, per_epoch = len(batches), len(batches) // recipe.epochs
    model = build(recipe.model, data.shape, data.classes, seed).to(device=data.x.device, dtype=data.x.dtype)
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


def replay(trace: Trace) -> Iterator[Step]:
    """Trains `trace` again and yields every step before it is taken; the parameters are those of the run, bit for bit.

    Cost: one training run, O(p) memory. The model of the last yielded step is the live one: once the iterator is
    exhausted, it holds the final parameters.
    """
    plan = (trace.batches, trace.lr)
    losses = torch.zeros(len(trace.lr), dtype=trace.train.x.dtype, device=trace.train.x.device)
    return _walk(trace.initial(), trace.train, trace.recipe, trace.seed, plan, losses)


def predict(model: nn.Module, x: Tensor, batch: int = 1024) -> Tensor:
    """Returns the logits (m, C) of the instances x, (m, *shape), in evaluation mode and blocks of `batch`."""
    was_training = model.training
    with torch.no_grad(), exact_arithmetic():
        model.eval()
        logits = [model(part) for part in x.split(batch)]
        model.train(was_training)
    return torch.cat(logits)
