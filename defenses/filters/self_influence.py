"""Self-influence: what a row does for itself.

Source: Pruthi et al., NeurIPS 2020, arXiv 2002.08484; after Feldman & Zhang 2020.

Needs: checkpoints with their learning rates.

Cost: K forward and backward passes over the training set.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from poisonbench.contracts.values import Evidence
from poisonbench.gradients import Form, gradient_norms
from poisonbench.training.trace import check_trace


@dataclass(frozen=True)
class SelfInfluence:
    """sum_k eta_k |g_i(theta_k)|^2: TracIn of a row on itself.

    A row that was memorised, not learnt with others, scores high.
    """

    uses: ClassVar[tuple[str, ...]] = ("gradients",)
    needs: ClassVar[tuple[str, ...]] = ("checkpoints",)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0."""
        check_rows(evidence)
        trace = evidence.trace
        check_trace(trace, self)
        parts = []
        for k, checkpoint in enumerate(trace.checkpoints):
            norms = gradient_norms(trace.model(k), trace.train, Form(loss=trace.loss))
            parts.append(checkpoint.lr * norms.square())
        return torch.stack(parts).sum(0)
