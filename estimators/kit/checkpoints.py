"""Sums over the checkpoints of a training run, which TracIn and GAS share."""

from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.gradients import Form, dot_products
from poisonbench.training.trace import Trace, check_points


def checkpoint_sum(trace: Trace, test: Dataset, form: Form) -> Tensor:
    """Returns sum_k eta_k <g_j, g_i> over the checkpoints of a training run, (m, n).

    Args:
        trace: gives n training instances and K checkpoints.
        test: m points.
        form: which gradients.
    """
    check_points(trace, test)
    scores = test.zeros(len(test), len(trace.train))
    for k, checkpoint in enumerate(trace.checkpoints):
        model = trace.model(k)
        scores += checkpoint.lr * dot_products(model, trace.train, test, form)
    return scores


def total_rate(trace: Trace) -> float:
    """Returns sum_k eta_k: what an instance's cosines with itself sum to."""
    return sum(checkpoint.lr for checkpoint in trace.checkpoints)
