"""Sums over the checkpoints of a training run, which TracIn and GAS share."""

from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.gradients.products import Form, dot_products
from poisonbench.training.trace import Trace, check_points


def checkpoint_sum(trace: Trace, test: Dataset, form: Form) -> Tensor:
    """Returns sum_k eta_k <g_j, g_i> over the checkpoints of a training run, (m, n): what TracIn and GAS share."""
    check_points(trace, test)
    scores = test.x.new_zeros(len(test), len(trace.train))
    for k, checkpoint in enumerate(trace.checkpoints):
        scores += checkpoint.lr * dot_products(trace.model(k), trace.train, test, form)
    return scores
