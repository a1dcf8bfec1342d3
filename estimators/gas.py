"""GAS, gradient aggregated similarity (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055): TracIn with renormalised gradients.

Needs: checkpoints with their learning rates.

Cost: that of TracIn at the checkpoints.
"""

from dataclasses import dataclass

from torch import Tensor

from estimators.kit.checkpoints import checkpoint_sum
from poisonbench.contracts.protocols import Scorer
from poisonbench.gradients.products import Form, layer_norms
from poisonbench.training.trace import Trace, check_trace


@dataclass(frozen=True)
class GAS:
    """sum_k eta_k cos(g_i(theta_k), g_test(theta_k)) (eq. 11).

    Computed on margin gradients, which have the direction of the loss gradients at any confidence: scores do not change when
    every instance's loss is multiplied by a positive constant of its own.

    Attributes:
        layerwise: the cosine a layer, summed over the layers (GAS-L).
    """

    layerwise: bool = False

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); there is nothing to pay upfront."""
        check_trace(trace)
        form = Form("margin", "layer" if self.layerwise else "all")
        return lambda test: checkpoint_sum(trace, test, form)

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,): the sum of the weights, a layer."""
        check_trace(trace)
        if not self.layerwise:
            return trace.train.x.new_full((len(trace.train),), sum(c.lr for c in trace.checkpoints))
        scores = trace.train.x.new_zeros(len(trace.train))
        for k, c in enumerate(trace.checkpoints):
            live = (layer_norms(trace.model(k), trace.train, Form("margin")) > 0).sum(0)
            scores += c.lr * live.to(scores.dtype)
        return scores
