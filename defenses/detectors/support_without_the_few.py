"""Support without the few: would a prediction's neighbourhood still agree, were its most influential training rows not there?

Influence names the rows, deep nearest neighbours (Papernot & McDaniel 2018, arXiv 1803.04765) judge what is left.
Cost: a forward pass over the n + m instances and O(m n d) for the similarities in d features.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer, features_of
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence

_BLOCK = 1 << 24  # similarities at a time


@dataclass(frozen=True)
class SupportWithoutTheFew:
    """Drops the `few` most influential rows of the predicted label; scores the share of other labels nearest among the rest.

    Nearest by cosine similarity of the victim's features. The last hidden layer has often made up its mind: there a triggered
    point lies within the class that the attacker wants even when every poisoned row is gone; the layer below still tells.

    Attributes:
        few: rows dropped, at most half of the label's; best not below the size of the poison set to be found.
        neighbours: nearest rows asked, of any label.
        layer: see `defenses.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features")

    few: int = 60
    neighbours: int = 60
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_at_least("few", self.few, 1)
        check_at_least("neighbours", self.neighbours, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1]; NaN where an influence is not finite or there are too few training rows."""
        influence, sound = sound_influence(evidence)
        train, test = evidence.trace.train, evidence.test
        scores = influence.new_full((len(test),), torch.nan)
        if len(train) < self.few + self.neighbours:
            need = f"{self.few} rows to drop and {self.neighbours} neighbours"
            warnings.warn(
                f"{need} are more than the {len(train)} training rows: no score", stacklevel=2
            )
            return scores
        # of a small class at most half may go: with all of its rows gone no point of it could find support
        most = (torch.bincount(train.y, minlength=train.classes) // 2).clamp(max=self.few)[test.y]
        rank = torch.arange(self.few, device=test.y.device)
        rows, points = (
            F.normalize(part) for part in features_of(evidence.trace, self.layer, train, test)
        )
        for index in sound.nonzero().squeeze(1).split(max(1, _BLOCK // len(train))):
            other = train.y != test.y[index, None]  # (b, n)
            few = influence[index].masked_fill(other, -torch.inf).topk(self.few).indices
            gone = torch.zeros_like(other).scatter(1, few, rank < most[index, None])
            nearest = (
                (points[index] @ rows.T).masked_fill(gone, -torch.inf).topk(self.neighbours).indices
            )
            scores[index] = other.gather(1, nearest).to(scores.dtype).mean(1)
        return scores
