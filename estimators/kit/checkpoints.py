"""Sums over the checkpoints of a training run, which TracIn and GAS share."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.device.precision import Precision, asking
from poisonbench.gradients import Form, dot_products, gradient_norms
from poisonbench.training.trace import Trace, check_points

Weights = Literal["rate", "balanced"]


def checkpoint_sum(
    trace: Trace,
    test: Dataset,
    form: Form,
    weights: Sequence[float] | None = None,
    rows: range | None = None,
    precision: Precision = "full",
) -> Tensor:
    """Returns sum_k w_k <g_j, g_i> over the checkpoints of a training run, (m, n).

    Args:
        trace: gives n training instances and K checkpoints.
        test: m points.
        form: which gradients.
        weights: K; None: the learning rates.
        rows: of the training set, for these columns alone; None for all.
        precision: of products and convolutions on CUDA.
    """
    check_points(trace, test)
    train = trace.train
    if rows is not None:
        train = train.take(torch.arange(rows.start, rows.stop))
    if weights is None:
        weights = weights_of(trace, form, "rate")
    scores = test.zeros(len(test), len(train))
    with asking(precision):
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
