"""STRIP (Gao et al., ACSAC 2019, arXiv 1902.06531): a trigger still decides when another image is laid over it.

Needs: images, and clean ones to lay over them.

Cost: N forward passes over the probe.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.evidence import trusted_points
from defenses.features import check_at_least
from poisonbench.contracts import Evidence
from poisonbench.seeding import generator
from poisonbench.training import predict


@dataclass(frozen=True)
class Strip:
    """Minus the mean, over N superpositions with trusted points, of the entropy over the classes (eq. 4).

    Attributes:
        overlays: N, at most the trusted points that there are.
        alpha: weight of the overlay; the paper adds the images, which is 0.5 up to brightness.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("reference",)

    overlays: int = 64
    alpha: float = 0.5

    def __post_init__(self) -> None:
        check_at_least(self, 1, "overlays")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-log C, 0]."""
        x, model = evidence.test.x, evidence.trace.model()
        clean = x[trusted_points(evidence)]
        order = torch.randperm(len(clean), generator=generator(evidence.trace.seed, "strip"))[: self.overlays]
        total = torch.zeros_like(x[:, :1].flatten(1)[:, 0])
        for overlay in clean[order.to(x.device)]:  # N of them, whatever the number of points
            total += entropy(predict(model, (1 - self.alpha) * x + self.alpha * overlay))
        return -total / len(order)


def entropy(logits: Tensor) -> Tensor:
    """Returns the entropy over the classes of each row of logits (m, C), in nats, (m,)."""
    log_p = F.log_softmax(logits, 1)
    return -(log_p.exp() * log_p).sum(1)
