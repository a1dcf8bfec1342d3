"""Sums over the checkpoints of a training run, which TracIn and GAS share."""

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.gradients import Form, dot_products
from poisonbench.training.trace import Trace, check_points


def checkpoint_sum(
    trace: Trace, test: Dataset, form: Form, rows: range | None = None
) -> Tensor:
    """Returns sum_k eta_k <g_j, g_i> over the checkpoints of a training run, (m, n).

    Args:
        trace: gives n training instances and K checkpoints.
        test: m points.
        form: which gradients.
        rows: of the training set, for these columns alone; None for all.
    """
    check_points(trace, test)
    train = trace.train
    if rows is not None:
        train = train.take(torch.arange(rows.start, rows.stop))
    scores = test.zeros(len(test), len(train))
    for k, checkpoint in enumerate(trace.checkpoints):
        model = trace.model(k)
        scores += checkpoint.lr * dot_products(model, train, test, form)
    return scores


def total_rate(trace: Trace) -> float:
    """Returns sum_k eta_k: what an instance's cosines with itself sum to."""
    return sum(checkpoint.lr for checkpoint in trace.checkpoints)
