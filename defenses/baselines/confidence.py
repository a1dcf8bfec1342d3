"""Confidence of the prediction alone: the cheapest rival.

Needs: the final model. Source: Hendrycks & Gimpel, ICLR 2017, arXiv 1610.02136, by the margin, which does not round to 1.

Cost: a forward pass over the probe.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence
from poisonbench.models import predict


@dataclass(frozen=True)
class Confidence:
    """Minus the log-odds of the predicted label: a prediction that the victim is unsure of is suspicious."""

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,)."""
        logits, label = predict(evidence.trace.model(), evidence.test.x), evidence.test.y[:, None]
        others = logits.scatter(1, label, -torch.inf).logsumexp(1)
        scores: Tensor = others - logits.gather(1, label).squeeze(1)
        return scores
