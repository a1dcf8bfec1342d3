"""STRIP (Gao et al., ACSAC 2019, arXiv 1902.06531): a trigger decides under a second image, too.

Sentences, sounds and vectors as in `defenses.kit.transforms`, after STRIP-ViTA (Gao et al., TDSC
2021, arXiv 1911.10312).

Needs: clean points to lay over the others.

Cost: N + 1 forward passes over the probe, twice as many where two instances exchange halves.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import (
    check_kind,
    check_points,
    check_unit,
    trusted_points,
)
from defenses.kit.transforms.table import TRANSFORMS, transforms_of
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
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
        mode: "add": both instances in one, in the manner of their kind; of images the sum, clipped
            at 1, which leaves a bright trigger as it is, as published. "average": their mean, which
            sentences have none of.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("reference",)
    least_trusted: ClassVar[int] = 2

    overlays: int = 64
    mode: Mode = "add"

    def __post_init__(self) -> None:
        check_at_least("overlays", self.overlays, 1)
        check_choice("mode", self.mode, get_args(Mode))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of data on which it works: all that have a mean, or all."""
        found = []
        for kind, transforms in TRANSFORMS.items():
            if self.mode == "add" or transforms.averaged is not None:
                found.append(kind)
        return tuple(found)

    @property
    def unit(self) -> bool:
        """Whether it takes pictures in [0, 1] alone: sums are clipped there."""
        return self.mode == "add"

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-log C, 0].

        Raises:
            ConfigError: the instances are of a kind that has no mean, or outside [0, 1].
            ValueError: fewer than 2 trusted points.
        """
        check_points(evidence)
        known = trusted_points(evidence, self.least_trusted)
        check_kind(evidence, f"strip lays points over others, {self.mode}", self.kinds)
        check_unit(evidence, self)
        x = evidence.test.x
        model = evidence.trace.model()
        points = torch.arange(len(x), device=x.device)
        total = evidence.test.zeros(len(x))
        laid = torch.zeros_like(points)
        for overlay in self._drawn(known, evidence.trace.seed):
            mixtures = self._mixed(evidence.test, x[overlay])
            each = [entropy(predict(model, mixed)) for mixed in mixtures]
            found = torch.stack(each).mean(0)
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

    def _mixed(self, test: Dataset, overlay: Tensor) -> list[Tensor]:
        """Returns the points with one other, (*shape), in one way or in several."""
        transforms = transforms_of(test)
        if self.mode == "add":
            return transforms.added(test.x, overlay)
        assert transforms.averaged is not None, test.kind
        return transforms.averaged(test.x, overlay)


def entropy(logits: Tensor) -> Tensor:
    """Returns the entropy over the classes of each row of logits (m, C), in nats, (m,)."""
    log_p = F.log_softmax(logits, 1)
    terms = log_p.exp() * log_p
    return -terms.sum(1)
