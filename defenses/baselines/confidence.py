"""Confidence of the prediction alone: the cheapest rival.

Needs: the final model. Source: Hendrycks & Gimpel, ICLR 2017, arXiv 1610.02136, by the margin,
which does not round to 1.

Cost: a forward pass over the probe.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict


@dataclass(frozen=True)
class Confidence:
    """Minus the log-odds of the predicted label: suspicious is what the victim is unsure of."""

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,)."""
        check_points(evidence)
        logits = predict(evidence.trace.model(), evidence.test.x)
        label = evidence.test.y[:, None]
        own: Tensor = logits.gather(1, label).squeeze(1)
        others = logits.scatter(1, label, -torch.inf).logsumexp(1)
        return others - own
