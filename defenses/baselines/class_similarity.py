"""Class similarity: is another class nearer in the victim's features than the predicted one?

After the prototypes of Snell et al., NeurIPS 2017, arXiv 1703.05175, by medians, which a minority
of poison cannot move.

Needs: features of the training set and of the probe.

Cost: a forward pass over both and O(m n d). Memory: the features, and 16 MiB of cosines at a time.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points, once
from defenses.kit.features import Layer, check_layer, point_features, row_features
from defenses.kit.similarity.cosines import Cosines
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class ClassSimilarity:
    """Median cosine similarity to the rows of the best other class, minus that to the own class.

    The own class is that of the predicted label.

    Attributes:
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: an unknown layer.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    layer: Layer = "inner"

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [-2, 2].

        NaN where the predicted label, or every other one, has no training rows.
        """
        check_points(evidence)
        key = ("similarity", evidence.trace, evidence.test, self.layer)
        return once(evidence, key, lambda: self._of(evidence))

    def _of(self, evidence: Evidence) -> Tensor:
        return foreignness(
            points=point_features(evidence, self.layer),
            labels=evidence.test.y,
            rows=row_features(evidence, self.layer),
            train_labels=evidence.trace.train.y,
        )


def foreignness(
    points: Tensor,
    labels: Tensor,
    rows: Tensor,
    train_labels: Tensor,
) -> Tensor:
    """Returns the best other class's median similarity minus the own class's, (m,).

    Args:
        points: (m, d).
        labels: (m,) int64.
        rows: (n, d).
        train_labels: (n,) int64.
    """
    parts = []
    for index, similarity in Cosines(points, rows).blocks():
        foreign = _best_other_minus_own(similarity, labels[index], train_labels)
        parts.append(foreign)
    return torch.cat(parts)


def _best_other_minus_own(
    similarity: Tensor, labels: Tensor, train_labels: Tensor
) -> Tensor:
    """Returns the same from the similarities (b, n) of points with `labels` (b,), (b,)."""
    classes = train_labels.unique()
    medians = []
    for label in classes:
        of_class = similarity[:, train_labels == label]
        medians.append(of_class.nanquantile(0.5, dim=1))
    middle = torch.stack(medians, 1)  # (b, classes)
    own = classes == labels[:, None]
    no_rival = own | middle.isnan()
    best = middle.masked_fill(no_rival, -torch.inf).amax(1)
    best = best.masked_fill(best.isinf(), torch.nan)
    mine = middle.masked_fill(~own, 0).sum(1)
    without_rows = ~own.any(1)
    mine = mine.masked_fill(without_rows, torch.nan)
    return best - mine
