"""Foreign support: suspect is a prediction that looks like another class, as do its proponents.

Two questions, each weighed by how seldom a clean point answers so: `class-similarity` asks the
point, `foreign-proponents` the rows that influence names. Combined as by Fisher (Statistical
Methods for Research Workers, 1925), on held-out clean points.

Needs: influence, features of the training set and of the probe, and probe points known to be clean.

Cost: a forward pass over the n + m instances and O((m + q) n (d + log n)) for q proponents, at most
k m; no gradient and no training.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.baselines.class_similarity import ClassSimilarity
from defenses.detectors.foreign_proponents import ForeignProponents
from defenses.kit.evidence import shared, trusted_points
from defenses.kit.features import Layer, check_layer
from defenses.kit.tail_probability import combined, surprise_among
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence

TRUSTED = 10  # clean points from which a tail can be guessed at all


@dataclass(frozen=True)
class ForeignSupport:
    """-log p of the point's foreignness and its proponents' together, p among the trusted points.

    It knows nothing of the attack: neither its budget nor its target.

    Attributes:
        k: proponents asked.
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features", "reference")
    least_trusted: ClassVar[int] = TRUSTED

    k: int = 5
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) >= 0; NaN where one of the two has no score.

        Raises:
            ValueError: fewer than 10 trusted points.
        """
        evidence = shared(evidence)
        proponents = ForeignProponents(self.k, self.layer)(evidence)
        known = trusted_points(evidence, TRUSTED)
        similarity = ClassSimilarity(self.layer)
        point = similarity(evidence).to(proponents.dtype)
        of_point = surprise_among(point, known)
        of_proponents = surprise_among(proponents, known)
        return combined(torch.stack([of_point, of_proponents]))
