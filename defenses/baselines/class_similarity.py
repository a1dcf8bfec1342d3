"""Class similarity: is another class nearer in the victim's features than the predicted one?

After the prototypes of Snell et al., NeurIPS 2017, arXiv 1703.05175, by medians, which a minority of poison cannot move.

Needs: features of the training set and of the probe.

Cost: a forward pass over both and O(m n (d + log n)).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from defenses.kit.features import Layer, check_layer, features_of
from poisonbench.contracts.values import Evidence

_BLOCK = 1 << 22  # similarities at a time


@dataclass(frozen=True)
class ClassSimilarity:
    """Median cosine similarity to the rows of the best other class, minus that to the rows of the predicted label.

    Attributes:
        layer: see `defenses.features.encoder`.

    Raises:
        ValueError: an unknown layer.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 2]; NaN where the predicted label, or every other one, has no training rows."""
        train, test = evidence.trace.train, evidence.test
        rows, points = features_of(evidence.trace, self.layer, train, test)
        return foreignness(points, test.y, rows, train.y)


def foreignness(
    points: Tensor, labels: Tensor, rows: Tensor, train_labels: Tensor, gone: Tensor | None = None
) -> Tensor:
    """Returns the best other class's median similarity minus the own class's, (m,).

    Args:
        points: (m, d).
        labels: (m,) int64.
        rows: (n, d).
        train_labels: (n,) int64.
        gone: (m, n) bool, rows that do not count for a point; None for none.
    """
    points, rows = F.normalize(points), F.normalize(rows)
    classes = train_labels.unique()
    columns = [train_labels == c for c in classes]
    parts = []
    for index in torch.arange(len(points), device=points.device).split(
        max(1, _BLOCK // max(1, len(rows)))
    ):
        similarity = points[index] @ rows.T
        if gone is not None:
            similarity = similarity.masked_fill(gone[index], torch.nan)
        middle = torch.stack(
            [similarity[:, column].nanquantile(0.5, dim=1) for column in columns], 1
        )
        own = classes == labels[index, None]
        best = middle.masked_fill(own | middle.isnan(), -torch.inf).amax(1)
        mine = torch.where(own.any(1), middle.masked_fill(~own, 0).sum(1), torch.nan)
        parts.append(best.masked_fill(best.isinf(), torch.nan) - mine)
    return torch.cat(parts)
