"""A training run that is walked backwards, on parameters by name.

Cost: the run twice; O(sqrt(T) p) memory for T steps of p parameters.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.functional import call
from poisonbench.seeding import exact_arithmetic
from poisonbench.training.guards import check_final
from poisonbench.training.trace import Trace

Vectors = dict[str, Tensor]  # parameter name -> values
Gradients = tuple[Tensor | None, ...]  # None of a parameter that is not used


@dataclass(frozen=True, eq=False)
class State:
    """SGD between two steps.

    Attributes:
        theta: parameter name -> value.
        buffer: parameter name -> momentum buffer.
    """

    theta: Vectors
    buffer: Vectors


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A training run that can be walked backwards.

    Attributes:
        trace: the run.
        every: steps between two kept states, in [1, T].
        kept: states before the steps 0, every, 2 every, ...
    """

    trace: Trace
    every: int
    kept: list[State]

    def backwards(self, model: nn.Module) -> Iterator[tuple[int, Vectors]]:
        """Yields (t, theta_t) for t = T-1, ..., 0; one segment of the run is recomputed at a time.

        Args:
            model: supplies the form.
        """
        steps = len(self.trace.by_step.lr)
        for first in reversed(range(0, steps, self.every)):
            last = min(first + self.every, steps)
            state = self.kept[first // self.every]
            segment = [state.theta]
            for t in range(first, last - 1):
                state = advance(model, state, self.trace, t)
                segment.append(state.theta)
            for t in reversed(range(first, last)):
                yield t, segment.pop()


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


def batch_loss(
    model: nn.Module,
    theta: Vectors,
    batch: Dataset,
) -> Tensor:
    """Returns the mean cross entropy of a batch at the parameters `theta`."""
    logits = call(model, theta, batch.x)
    return F.cross_entropy(logits, batch.y)


def advance(
    model: nn.Module,
    state: State,
    trace: Trace,
    t: int,
) -> State:
    """Takes step t of the run, by the operations of torch.optim.SGD in their order, bit for bit."""
    recipe = trace.by_recipe
    rate = float(trace.by_step.lr[t])
    theta = as_leaves(state.theta)
    with exact_arithmetic(), torch.enable_grad():
        batch = trace.train.take(rows_of(trace, t))
        loss = batch_loss(model, theta, batch)
        gradients: Gradients = torch.autograd.grad(
            loss, list(theta.values()), allow_unused=True
        )
    after = {}
    buffers = {}
    for (name, value), gradient in zip(state.theta.items(), gradients, strict=True):
        if gradient is None:  # what is not used is not even decayed
            after[name] = value
            buffers[name] = state.buffer[name]
            continue
        d = gradient
        if recipe.weight_decay:
            d = gradient.add(value, alpha=recipe.weight_decay)
        buffer = state.buffer[name] * recipe.momentum + d
        move = buffer
        if recipe.nesterov:
            move = d.add(buffer, alpha=recipe.momentum)
        after[name] = value.detach().add(move, alpha=-rate)
        buffers[name] = buffer
    return State(after, buffers)


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
    for name, p in model.named_parameters():
        if p.requires_grad:
            theta[name] = p.detach()
            buffer[name] = torch.zeros_like(theta[name])
    state = State(theta, buffer)
    kept = []
    for t in range(steps):
        if t % every == 0:
            kept.append(state)
        state = advance(model, state, trace, t)
    check_final(trace, state.theta)
    return Trajectory(trace, every, kept)
