"""Self-influence (Pruthi et al., NeurIPS 2020, arXiv 2002.08484; after Feldman & Zhang 2020): what a row does for itself.

Needs: checkpoints with their learning rates.

Cost: K forward and backward passes over the training set.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence
from poisonbench.gradients.products import gradient_norms


@dataclass(frozen=True)
class SelfInfluence:
    """sum_k eta_k |g_i(theta_k)|^2: TracIn of a row on itself. A row that was memorised, not learnt with others, scores high."""

    uses: ClassVar[tuple[str, ...]] = ("gradients",)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0."""
        trace = evidence.trace
        parts = [
            c.lr * gradient_norms(trace.model(k), trace.train).square()
            for k, c in enumerate(trace.checkpoints)
        ]
        return torch.stack(parts).sum(0)
