"""Support without the few: would a prediction's neighbourhood still agree, were its most influential training rows not there?

Influence names the rows, deep nearest neighbours (Papernot & McDaniel 2018, arXiv 1803.04765) judge what is left.
Cost: a forward pass over the n + m instances and O(m n d) for the similarities in d features.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defenses.evidence import sound_influence
from poisonbench.contracts import Evidence
from poisonbench.training import predict

_BLOCK = 1 << 24  # similarities at a time


@dataclass(frozen=True)
class SupportWithoutTheFew:
    """Drops the `few` most influential rows of the predicted label; scores the share of other labels nearest among the rest.

    Nearest by cosine similarity of the victim's features. The last hidden layer has often made up its mind: there a triggered
    point lies within the class that the attacker wants even when every poisoned row is gone; the layer below still tells.

    Attributes:
        few: rows dropped, at most half of the label's; best not below the size of the poison set to be found.
        neighbours: nearest rows asked, of any label.
        layer: "inner": what enters the last layer with parameters of the victim's `features`, where that is an nn.Sequential
            with such a layer; "penultimate": what leaves `features`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features")

    few: int = 60
    neighbours: int = 60
    layer: Literal["inner", "penultimate"] = "inner"

    def __post_init__(self) -> None:
        for name in ("few", "neighbours"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.layer not in ("inner", "penultimate"):
            raise ValueError(f"layer must be 'inner' or 'penultimate', got {self.layer!r}")

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1]; NaN where an influence is not finite or there are too few training rows."""
        influence, sound = sound_influence(evidence)
        train, test = evidence.trace.train, evidence.test
        scores = influence.new_full((len(test),), torch.nan)
        if len(train) < self.few + self.neighbours:
            need = f"{self.few} rows to drop and {self.neighbours} neighbours"
            warnings.warn(f"{need} are more than the {len(train)} training rows: no score", stacklevel=2)
            return scores
        # of a small class at most half may go: with all of its rows gone no point of it could find support
        most = (torch.bincount(train.y, minlength=train.classes) // 2).clamp(max=self.few)[test.y]
        rank = torch.arange(self.few, device=test.y.device)
        encode = _encoder(evidence.trace.model(), self.layer)
        rows, points = (F.normalize(predict(encode, data.x).flatten(1)) for data in (train, test))
        for index in sound.nonzero().squeeze(1).split(max(1, _BLOCK // len(train))):
            other = train.y != test.y[index, None]  # (b, n)
            few = influence[index].masked_fill(other, -torch.inf).topk(self.few).indices
            gone = torch.zeros_like(other).scatter(1, few, rank < most[index, None])
            nearest = (points[index] @ rows.T).masked_fill(gone, -torch.inf).topk(self.neighbours).indices
            scores[index] = other.gather(1, nearest).to(scores.dtype).mean(1)
        return scores


def _encoder(model: nn.Module, layer: str) -> nn.Module:
    """Returns the part of `model` whose outputs are compared."""
    features = model.get_submodule("features")
    if layer == "inner" and isinstance(features, nn.Sequential):
        trained = [i for i, part in enumerate(features) if any(True for _ in part.parameters())]
        return features[: trained[-1]] if trained else features
    return features
