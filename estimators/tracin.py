"""TracIn (Pruthi et al., NeurIPS 2020, arXiv 2002.08484): influence as the loss change that each step on an instance brings.

Cost: checkpoints O(K (n + m) p + K n m p), steps O(T (b + m) p + T b m p) after one replay; O(n m) memory beyond the engine's.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from poisonbench.contracts import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Form, checkpoint_sum, dot_products
from poisonbench.trace import Trace


@dataclass(frozen=True)
class TracIn:
    """Sums eta <g_i, g_test> over the training run.

    Attributes:
        mode: "checkpoints": sum_k eta_k <g_i(theta_k), g_test(theta_k)> (TracInCP, section 3.2);
            "steps": sum over the steps with i in the batch of (eta_t / b) <g_i, g_test> at theta_t (eq. 1, by replay).
        layers: "all", or "last" for the gradients of the head alone (section 3.3).
        renormalize: cosines in place of dot products; with mode="checkpoints" that is GAS.

    Raises:
        ValueError: a field has none of its values.
    """

    mode: Literal["checkpoints", "steps"] = "checkpoints"
    layers: Literal["all", "last"] = "all"
    renormalize: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("checkpoints", "steps"):
            raise ValueError(f"mode must be 'checkpoints' or 'steps', got {self.mode!r}")
        if self.layers not in ("all", "last"):
            raise ValueError(f"layers must be 'all' or 'last', got {self.layers!r}")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); there is nothing to pay upfront."""
        form = Form("margin", "all", self.layers) if self.renormalize else Form(layers=self.layers)
        if self.mode == "checkpoints":
            return lambda test: checkpoint_sum(trace, test, form)
        return lambda test: _every_step(trace, test, form)


def _every_step(trace: Trace, test: Dataset, form: Form) -> Tensor:
    scores = test.x.new_zeros(len(test), len(trace.train))
    for step in trace.replay():
        dots = dot_products(step.model, trace.train.take(step.rows), test, form)
        scores.index_add_(1, step.rows, dots, alpha=step.lr / len(step.rows))
    return scores
