"""Foreign or fragile support, the default: suspect is a prediction whose support is of another class, or is lost at a touch.

Foreign: the point and the rows that it rests on look like another class (`foreign-support`); that tells where the victim's
features tell the classes apart. Fragile: its proponents lose hold of it when the point is blurred, flipped or cropped
(`influence-collapse`); that tells where a trigger is finer than what it is put on. The more surprising of the two counts.

Needs: influence, features, and probe points known to be clean; images, for the second.

Cost: a forward pass over the n + m instances, O(n^2 (d + log n)), and four times the dot products of gradients of one checkpoint.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.evidence import trusted_points
from defenses.features import Layer, check_at_least, check_layer
from defenses.foreign_support import TRUSTED, ForeignSupport
from defenses.influence_collapse import falls
from defenses.surprise import combined, surprise
from poisonbench.contracts import Evidence


@dataclass(frozen=True)
class ForeignOrFragile:
    """The larger of two -log p, p among the trusted points: of foreign support, and of the collapse under each transformation.

    It knows nothing of the attack: neither its budget nor its target. Instances that are no images are judged by the first.

    Attributes:
        k: proponents asked for their class.
        watched: proponents whose influence is watched.
        layer: see `defenses.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features", "gradients", "reference")

    k: int = 5
    watched: int = 10
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_at_least(self, 1, "k", "watched")
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) >= 0; NaN where one of the two has no score.

        Raises:
            ValueError: fewer than 10 trusted points.
        """
        foreign = ForeignSupport(self.k, self.layer)(evidence)
        if len(evidence.test.shape) != 3:
            return foreign
        known = trusted_points(evidence, TRUSTED)
        fragile = combined(
            torch.stack([surprise(fall, fall[known]) for fall in falls(evidence, self.watched, evidence.influence)])
        )
        return torch.maximum(foreign, fragile.to(foreign.dtype))
