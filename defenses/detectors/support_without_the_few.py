"""Support without the few: would the neighbourhood still agree without the most influential rows?

Influence names the rows, deep nearest neighbours (Papernot & McDaniel 2018, arXiv 1803.04765) judge
what is left.

Cost: a forward pass over the n + m instances and O(m n d) for the similarities in d features.
Memory: the features, and 16 MiB of cosines at a time.
"""

import warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import sound_influence
from defenses.kit.features import Layer, check_layer, point_features, row_features
from defenses.kit.similarity.cosines import Cosines
from defenses.kit.similarity.nearest import largest
from poisonbench.checks import check_at_least
from poisonbench.contracts.scope import Scope
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class SupportWithoutTheFew:
    """Share of other labels among the nearest rows, the `few` most influential ones left out.

    Left out are rows of the predicted label. Nearest by cosine similarity of the victim's features.
    The last hidden layer often shows the prediction alone: there a triggered point lies within the
    class that the attacker wants even when every poisoned row is gone; the layer below still tells.

    Attributes:
        few: rows dropped, at most half of the label's; best not below the size of the poison set to
            be found.
        neighbours: nearest rows asked, of any label.
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("influence", "features")
    reads: ClassVar[Scope] = "label"

    few: int = 60
    neighbours: int = 60
    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_at_least("few", self.few, 1)
        check_at_least("neighbours", self.neighbours, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1].

        NaN where an influence is not finite or there are too few training rows.
        """
        influence, sound = sound_influence(evidence, self.reads)
        train = evidence.trace.train
        test = evidence.test
        scores = influence.new_full((len(test),), torch.nan)
        if len(train) < self.few + self.neighbours:
            need = f"{self.few} rows to drop and {self.neighbours} neighbours"
            there = f"the {len(train)} training rows"
            warnings.warn(f"{need} are more than {there}: no score", stacklevel=2)
            return scores
        cosines = Cosines(
            points=point_features(evidence, self.layer),
            rows=row_features(evidence, self.layer),
        )
        judged = sound.nonzero().squeeze(1)
        for index, similarity in cosines.blocks(judged):
            labels = test.y[index]
            dropped = self._dropped(influence[index], labels, train.y)
            similarity.masked_fill_(dropped, -torch.inf)
            nearest = largest(similarity, self.neighbours)
            other = train.y[nearest] != labels[:, None]
            scores[index] = other.to(scores.dtype).mean(1)
        return scores

    def _dropped(
        self, influence: Tensor, labels: Tensor, train_labels: Tensor
    ) -> Tensor:
        """Returns the rows left out for each of b points, (b, n) bool.

        Of a small class at most half may go: with all of its rows gone no point of it could find
        support.

        Args:
            influence: (b, n).
            labels: (b,) int64.
            train_labels: (n,) int64.
        """
        other = train_labels != labels[:, None]
        of_label = (~other).sum(1)
        most = (of_label // 2).clamp(max=self.few)
        helps = influence.masked_fill(other, -torch.inf)
        few = helps.topk(self.few).indices
        rank = torch.arange(self.few, device=few.device)
        goes = rank < most[:, None]
        return torch.zeros_like(other).scatter(1, few, goes)
