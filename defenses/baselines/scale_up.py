"""SCALE-UP: a triggered prediction stays when the pixels are amplified.

Source: Guo et al., ICLR 2023, arXiv 2302.03251.

Needs: images in [0, 1].

Cost: a forward pass over the probe for each factor.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_images, check_points
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict


@dataclass(frozen=True)
class ScaleUp:
    """Scaled prediction consistency: the share of factors that keep the label (eq. 1, data-free).

    Attributes:
        factors: of amplification, each above 1; pixels are cut at 1.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    factors: tuple[float, ...] = (3.0, 5.0, 7.0, 9.0, 11.0)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 1:
            raise ValueError(f"factors must be numbers above 1, got {self.factors}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1]; few values, so many ties.

        Raises:
            ConfigError: the instances are no images.
        """
        check_points(evidence)
        check_images(evidence, "scale-up amplifies images")
        model = evidence.trace.model()
        test = evidence.test
        kept = []
        for factor in self.factors:
            amplified = (factor * test.x).clamp(0, 1)
            labels = predict(model, amplified).argmax(1)
            same = labels == test.y
            kept.append(same.to(test.dtype))
        return torch.stack(kept).mean(0)
