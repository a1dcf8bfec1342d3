"""STRIP (Gao et al., ACSAC 2019, arXiv 1902.06531): a trigger decides under a second image, too.

Needs: images, and clean ones to lay over them.

Cost: N + 1 forward passes over the probe.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import check_images, check_points, trusted_points
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict
from poisonbench.seeding import generator

Mode = Literal["add", "average"]


@dataclass(frozen=True)
class Strip:
    """Minus the mean, over N superpositions with trusted points, of the entropy of the classes.

    That is equation 4. A trusted point is never laid over itself, which would leave its prediction
    as it is: the next of the trusted points takes that place.

    Attributes:
        overlays: N, at most the trusted points that there are besides the point itself.
        mode: "add": the sum of both images, clipped at 1, which leaves a bright trigger as it is,
            as published; "average".

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("reference",)

    overlays: int = 64
    mode: Mode = "add"

    def __post_init__(self) -> None:
        check_at_least("overlays", self.overlays, 1)
        check_choice("mode", self.mode, get_args(Mode))

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-log C, 0].

        Raises:
            ConfigError: the instances are no images.
            ValueError: fewer than 2 trusted points.
        """
        check_points(evidence)
        known = trusted_points(evidence, least=2)
        check_images(evidence, "strip lays images over each other")
        x = evidence.test.x
        model = evidence.trace.model()
        points = torch.arange(len(x), device=x.device)
        total = x.new_zeros(len(x))
        laid = torch.zeros_like(points)
        for overlay in self._drawn(known, evidence.trace.seed):
            mixed = self._mixed(x, x[overlay])
            found = entropy(predict(model, mixed))
            counts = (points != overlay) & (laid < self.overlays)
            total += found.where(counts, 0)
            laid += counts
        return -total / laid

    def _drawn(self, known: Tensor, seed: int) -> Tensor:
        """Returns N of the trusted points, and one more for those that are among the N."""
        g = generator(seed, "strip")
        order = torch.randperm(len(known), generator=g)
        first = order[: self.overlays + 1]
        return known[first.to(known.device)]

    def _mixed(self, x: Tensor, overlay: Tensor) -> Tensor:
        """Returns the images (m, c, h, w) under one other, (c, h, w)."""
        both = x + overlay
        if self.mode == "add":
            return both.clamp(max=1)
        return both / 2


def entropy(logits: Tensor) -> Tensor:
    """Returns the entropy over the classes of each row of logits (m, C), in nats, (m,)."""
    log_p = F.log_softmax(logits, 1)
    terms = log_p.exp() * log_p
    return -terms.sum(1)
