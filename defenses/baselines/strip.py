"""STRIP (Gao et al., ACSAC 2019, arXiv 1902.06531): a trigger still decides when another image is laid over it.

Needs: images, and clean ones to lay over them.

Cost: N forward passes over the probe.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import check_images, trusted_points
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict
from poisonbench.seeding import generator

Mode = Literal["add", "average"]


@dataclass(frozen=True)
class Strip:
    """Minus the mean, over N superpositions with trusted points, of the entropy over the classes (eq. 4).

    Attributes:
        overlays: N, at most the trusted points that there are.
        mode: "add": the sum of both images, clipped at 1, which leaves a bright trigger as it is, as published; "average".

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("reference",)

    overlays: int = 64
    mode: Mode = "add"

    def __post_init__(self) -> None:
        check_at_least("overlays", self.overlays, 1)
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be 'add' or 'average', got {self.mode!r}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-log C, 0].

        Raises:
            ConfigError: the instances are no images.
        """
        x, model = evidence.test.x, evidence.trace.model()
        clean = x[trusted_points(evidence)]
        check_images(evidence, "strip lays images over each other")
        order = torch.randperm(len(clean), generator=generator(evidence.trace.seed, "strip"))[
            : self.overlays
        ]
        total = torch.zeros_like(x[:, :1].flatten(1)[:, 0])
        for overlay in clean[order.to(x.device)]:  # N of them, whatever the number of points
            both = (x + overlay).clamp(max=1) if self.mode == "add" else (x + overlay) / 2
            total += entropy(predict(model, both))
        return -total / len(order)


def entropy(logits: Tensor) -> Tensor:
    """Returns the entropy over the classes of each row of logits (m, C), in nats, (m,)."""
    log_p = F.log_softmax(logits, 1)
    return -(log_p.exp() * log_p).sum(1)
