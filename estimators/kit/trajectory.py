"""A training run that is walked backwards, on parameters by name.

Cost: the run twice; O(sqrt(T) p) memory for T steps of p parameters.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.kit.descent.adamw import adamw_step
from estimators.kit.descent.sgd import sgd_step
from estimators.kit.descent.state import Gradients, State, Vectors
from poisonbench.data import Dataset
from poisonbench.functional import call
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.augment import presented, training_layout
from poisonbench.training.guards import check_final
from poisonbench.training.trace import Trace


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A training run that can be walked backwards.

    Attributes:
        trace: the run.
        every: steps between two kept states, in [1, T].
        kept: states before the steps 0, every, 2 every, ...
        layout: how images lie in memory in every step.
    """

    trace: Trace
    every: int
    kept: list[State]
    layout: torch.memory_format

    def backwards(self, model: nn.Module) -> Iterator[tuple[int, State]]:
        """Yields (t, state before step t), t = T-1, ..., 0; a segment is recomputed at a time.

        Of SGD the parameters alone, which is all that its derivative reads.

        Args:
            model: supplies the form.
        """
        steps = len(self.trace.by_step.lr)
        for first in reversed(range(0, steps, self.every)):
            last = min(first + self.every, steps)
            state = self.kept[first // self.every]
            segment = [self._read(state)]
            for t in range(first, last - 1):
                state = advance(model, state, self.trace, t, self.layout)
                segment.append(self._read(state))
            for t in reversed(range(first, last)):
                yield t, segment.pop()

    def batch(self, t: int) -> Dataset:
        """Returns the training instances of step t as the model saw them."""
        return batch_of(self.trace, t, self.layout)

    def _read(self, state: State) -> State:
        """Returns what is read of a state on the way back."""
        if self.trace.by_recipe.optimizer == "adamw":
            return state
        return State(state.theta, {})


def rows_of(trace: Trace, t: int) -> Tensor:
    """Returns the training instances of step t, (b,) int64, on the device of the data."""
    rows = trace.by_step.batches[t]
    return rows[rows >= 0].to(trace.train.y.device)


def as_leaves(theta: Vectors) -> Vectors:
    """Returns the values as leaves of a graph of their own."""
    leaves = {}
    for name, value in theta.items():
        leaves[name] = value.detach().requires_grad_()
    return leaves


def batch_of(trace: Trace, t: int, layout: torch.memory_format) -> Dataset:
    """Returns the training instances of step t as the model saw them, augmented or not."""
    rows = rows_of(trace, t)
    x = presented(trace.train, rows, trace.by_recipe, trace.seed, t, layout)
    return trace.train.rows(x, trace.train.y[rows])


def batch_loss(
    model: nn.Module,
    theta: Vectors,
    batch: Dataset,
    smoothing: float = 0.0,
) -> Tensor:
    """Returns the mean cross entropy of a batch at the parameters `theta`, labels smoothed."""
    logits = call(model, theta, batch.x)
    return F.cross_entropy(logits, batch.y, label_smoothing=smoothing)


def batch_gradients(
    model: nn.Module,
    theta: Vectors,
    batch: Dataset,
    smoothing: float,
) -> Gradients:
    """Returns the gradients of a batch's loss by the parameters that it uses."""
    leaves = as_leaves(theta)
    with exact_arithmetic(), torch.enable_grad():
        loss = batch_loss(model, leaves, batch, smoothing)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    pairs = zip(leaves, found, strict=True)
    return {name: gradient for name, gradient in pairs if gradient is not None}


def advance(
    model: nn.Module,
    state: State,
    trace: Trace,
    t: int,
    layout: torch.memory_format,
) -> State:
    """Takes step t of the run, bit for bit; `layout` as in `presented`."""
    recipe = trace.by_recipe
    rate = float(trace.by_step.lr[t])
    batch = batch_of(trace, t, layout)
    gradients = batch_gradients(model, state.theta, batch, recipe.label_smoothing)
    if recipe.optimizer == "adamw":
        return adamw_step(state, gradients, recipe, rate, t)
    return sgd_step(state, gradients, recipe, rate)


def record(trace: Trace, every: int | None = None) -> Trajectory:
    """Trains again and keeps a state every `every` steps.

    Args:
        trace: the run.
        every: None balances the kept states against the recomputed segment.

    Raises:
        ReplayError: the run does not end where it did, such as with another number of threads.
    """
    model = trace.initial()
    steps = len(trace.by_step.lr)
    if every is None:
        every = math.ceil(math.sqrt(2 * steps))
    theta = {}
    buffer = {}
    second = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            theta[name] = p.detach()
            buffer[name] = torch.zeros_like(theta[name])
            if trace.by_recipe.optimizer == "adamw":
                second[name] = torch.zeros_like(theta[name])
    state = State(theta, buffer, second)
    layout = training_layout(model, trace.train)
    kept = []
    for t in range(steps):
        if t % every == 0:
            kept.append(state)
        state = advance(model, state, trace, t, layout)
    check_final(trace, state.theta)
    return Trajectory(trace, every, kept, layout)
