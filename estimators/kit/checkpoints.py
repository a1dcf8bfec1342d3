"""Sums over the checkpoints of a training run, which TracIn and GAS share, and directions there."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from poisonbench.contracts.scope import Scope
from poisonbench.data import Dataset
from poisonbench.device.precision import Precision, asking
from poisonbench.gradients import (
    Form,
    Layers,
    dot_products,
    gradient_norms,
    parameter_names,
)
from poisonbench.gradients.passes import Vectors
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace, check_points

Weights = Literal["rate", "balanced"]
KEPT = 1 << 28  # bytes of random directions that are kept; more are drawn at every use


def checkpoint_sum(
    trace: Trace,
    test: Dataset,
    form: Form,
    weights: Sequence[float] | None = None,
    rows: range | Tensor | None = None,
    precision: Precision = "full",
    scope: Scope = "all",
) -> Tensor:
    """Returns sum_k w_k <g_j, g_i> over the checkpoints of a training run, (m, n).

    Args:
        trace: gives n training instances and K checkpoints.
        test: m points.
        form: which gradients.
        weights: K; None: the learning rates.
        rows: of the training set, for these columns alone; None for all.
        precision: of the products; "tf32" on CUDA alone.
        scope: "label": for rows alone that carry a point's label; NaN for the others.
    """
    check_points(trace, test)
    train = trace.train
    if isinstance(rows, range):
        rows = torch.arange(rows.start, rows.stop)
    if rows is not None:
        train = train.take(rows)
    if weights is None:
        weights = weights_of(trace, form, "rate")
    with asking(precision):
        if scope == "all":
            return _products(trace, train, test, form, weights)
        return _of_labels(trace, train, test, form, weights)


def _of_labels(
    trace: Trace,
    train: Dataset,
    test: Dataset,
    form: Form,
    weights: Sequence[float],
) -> Tensor:
    """Returns the sums for training instances of a point's label, NaN elsewhere, (m, n)."""
    scores = test.zeros(len(test), len(train))
    same = test.y[:, None] == train.y
    scores.masked_fill_(~same, torch.nan)
    parts = []
    for label in test.y.unique():
        points = (test.y == label).nonzero().squeeze(1)
        rows = (train.y == label).nonzero().squeeze(1)
        parts.append((points, rows, test.take(points), train.take(rows)))
    for k, weight in enumerate(weights):
        model = trace.model(k)
        for points, rows, some, own in parts:
            products = dot_products(model, own, some, form)
            scores[points[:, None], rows] += weight * products
    return scores


def _products(
    trace: Trace,
    train: Dataset,
    test: Dataset,
    form: Form,
    weights: Sequence[float],
) -> Tensor:
    """Returns the sums for all training instances, (m, n)."""
    scores = test.zeros(len(test), len(train))
    for k, weight in enumerate(weights):
        scores += weight * dot_products(trace.model(k), train, test, form)
    return scores


def weights_of(trace: Trace, form: Form, weights: Weights) -> list[float]:
    """Returns the weight of every checkpoint.

    Args:
        trace: gives n training instances and K checkpoints.
        form: which gradients.
        weights: "rate": the learning rates; "balanced": one over the mean squared norm of the
            training gradients there, so that the checkpoints have equal shares in self-influence.
    """
    if weights == "rate":
        return [checkpoint.lr for checkpoint in trace.checkpoints]
    found = []
    for k in range(len(trace.checkpoints)):
        norms = gradient_norms(trace.model(k), trace.train, form)
        square = float(norms.double().square().mean())
        found.append(1 / square if square else 0.0)
    return found


def total_rate(trace: Trace) -> float:
    """Returns sum_k eta_k: what an instance's cosines with itself sum to."""
    return sum(checkpoint.lr for checkpoint in trace.checkpoints)


def tell_optimizer(trace: Trace) -> None:
    """Warns of a run whose steps are not the gradient times the learning rate."""
    recipe = trace.recipe
    if recipe is not None and recipe.optimizer != "sgd":
        warnings.warn(
            f"the run was trained by {recipe.optimizer}: sums of learning rate x dot product are "
            "not its loss changes; HyDRA(hessian=True) follows it",
            stacklevel=3,
        )


def random_directions(
    trace: Trace,
    layers: Layers,
    d: int,
    seed: int,
) -> Callable[[int], Vectors]:
    """Returns what gives, for a checkpoint k, d standard normal directions, name -> (d, *shape).

    Args:
        trace: of the checkpoints.
        layers: "all" parameters, or "last" for the head's.
        d: how many, for every checkpoint.
        seed: of all.
    """

    def directions(k: int) -> Vectors:
        model = trace.model(k)
        draws = generator(seed, "projection", k)
        parameters = dict(model.named_parameters())
        found = {}
        for name in parameter_names(model, layers):
            p = parameters[name]
            drawn = torch.randn((d, *p.shape), generator=draws, dtype=p.dtype)
            found[name] = drawn.to(p.device)
        return found

    final = trace.model()
    parameters = dict(final.named_parameters())
    names = parameter_names(final, layers)
    size = sum(parameters[name].nbytes for name in names)
    if len(trace.checkpoints) * d * size <= KEPT:
        return cache(directions)
    return directions
