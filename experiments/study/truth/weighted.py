"""A training run repeated with other weights of its rows, many times at once."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from estimators.kit.descent.sgd import sgd_step
from estimators.kit.descent.state import State, Vectors
from estimators.kit.trajectory import batch_of, rows_of
from poisonbench.data import Dataset
from poisonbench.objectives import margins
from poisonbench.training.trace import Trace


def lost(trace: Trace, lowered: Tensor, points: Dataset) -> Tensor:
    """Returns what margins lose as rows lose weight in the same run, (K, m).

    Args:
        trace: the run.
        lowered: (K, n), by how much each weight is lowered from 1.
        points: m points.
    """
    itself = torch.zeros_like(lowered[:1])
    every = torch.cat([itself, lowered])
    theta = weighted_runs(trace, 1 - every)
    margin = margins_of(trace, theta, points)
    return margin[:1] - margin[1:]


def weighted_runs(trace: Trace, weights: Tensor) -> Vectors:
    """Repeats a run with other weights of the rows in the mean of every batch, K runs at once.

    Args:
        trace: a run of SGD without augmentation.
        weights: (K, n) >= 0, 1 for a row as it was; the divisor stays the size of the batch.

    Returns:
        The final parameters, name -> (K, *shape).
    """
    model = trace.initial()
    recipe = trace.by_recipe
    theta = {}
    zeros = {}
    for name, value in model.named_parameters():
        shape = (len(weights), *value.shape)
        theta[name] = value.detach().expand(shape).clone()
        zeros[name] = torch.zeros_like(theta[name])
    state = State(theta, zeros)

    def loss(
        own: Vectors,
        x: Tensor,
        y: Tensor,
        weight: Tensor,
    ) -> Tensor:
        logits = functional_call(model, own, (x,))
        each = F.cross_entropy(logits, y, reduction="none")
        return (weight * each).sum() / len(y)

    gradients_of = vmap(grad(loss), in_dims=(0, None, None, 0))
    rates = trace.by_step.lr.tolist()
    for t, rate in enumerate(rates):
        batch = batch_of(trace, t, torch.contiguous_format)
        rows = rows_of(trace, t)
        own = weights[:, rows]
        gradients = gradients_of(
            state.theta,
            batch.x,
            batch.y,
            own,
        )
        state = sgd_step(state, gradients, recipe, rate)
    return state.theta


def margins_of(trace: Trace, theta: Vectors, points: Dataset) -> Tensor:
    """Returns the margins of m points by K models of given parameters, (K, m)."""
    model = trace.model()

    def logits(own: Vectors) -> Tensor:
        found: Tensor = functional_call(model, own, (points.x,))
        return margins(found, points.y)

    with torch.no_grad():
        found: Tensor = vmap(logits)(theta)
    return found
