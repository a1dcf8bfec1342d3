"""SCALE-UP: a triggered prediction stays when the instance is amplified.

Source: Guo et al., ICLR 2023, arXiv 2302.03251.

Needs: images or spectrograms in [0, 1].

Cost: a forward pass over the probe for each factor.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_kind, check_points, check_unit
from defenses.kit.transforms.table import transforms_of
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict


@dataclass(frozen=True)
class ScaleUp:
    """Scaled prediction consistency: the share of factors that keep the label (eq. 1, data-free).

    Attributes:
        factors: of amplification, each above 1; values are cut at 1.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("image", "spectrogram")
    unit: ClassVar[bool] = True

    factors: tuple[float, ...] = (3.0, 5.0, 7.0, 9.0, 11.0)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 1:
            raise ValueError(f"factors must be numbers above 1, got {self.factors}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1]; few values, so many ties.

        Raises:
            ConfigError: the instances are of another kind than `kinds`, or outside [0, 1].
        """
        check_points(evidence)
        check_kind(evidence, "scale-up amplifies instances", self.kinds)
        check_unit(evidence, self)
        model = evidence.trace.model()
        test = evidence.test
        amplify = transforms_of(test).amplified
        assert amplify is not None, test.kind
        kept = []
        for factor in self.factors:
            labels = predict(model, amplify(test.x, factor)).argmax(1)
            same = labels == test.y
            kept.append(same.to(test.dtype))
        return torch.stack(kept).mean(0)
