"""Deep k-nearest neighbours: which labels lie around a point in the victim's features.

As a filter: Peri et al., ECCV workshops 2020, arXiv 1909.13374. As a detector: Papernot & McDaniel
2018, arXiv 1803.04765.

Needs: features of the training set, and of the probe.

Cost: a forward pass over both and O(n^2 d) for the filter, O(m n d) for the detector. Memory: the
features, and 16 MiB of cosines at a time.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from defenses.kit.features import Layer, check_layer, point_features, row_features
from defenses.kit.similarity.cosines import Cosines
from defenses.kit.similarity.nearest import largest
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class Neighbours:
    """The share of other labels among the nearest training rows.

    Nearest by cosine similarity of the victim's features.

    Attributes:
        neighbours: how many, at most the rows that there are.
        layer: see `defenses.kit.features.encoder`.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    neighbours: int = 40
    layer: Layer = "penultimate"

    def __post_init__(self) -> None:
        check_at_least("neighbours", self.neighbours, 1)
        check_layer(self.layer)


@dataclass(frozen=True)
class DeepKNN(Neighbours):
    """Disagreement of a probe point's neighbours with its predicted label."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,) in [0, 1]."""
        check_points(evidence)
        train = evidence.trace.train
        test = evidence.test
        rows = row_features(evidence, self.layer)
        points = point_features(evidence, self.layer)
        return disagreement(
            points=points,
            labels=test.y,
            rows=rows,
            train_labels=train.y,
            k=self.neighbours,
        )


def disagreement(
    points: Tensor,
    labels: Tensor,
    rows: Tensor,
    train_labels: Tensor,
    k: int,
) -> Tensor:
    """Returns the share of other labels among the k rows nearest to each point, (m,).

    Args:
        points: (m, d).
        labels: (m,) int64.
        rows: (n, d).
        train_labels: (n,) int64.
        k: neighbours, cut to the rows there are.
    """
    count = min(k, len(rows))
    shares = []
    for index, similarity in Cosines(points, rows).blocks():
        nearest = largest(similarity, count)
        other = train_labels[nearest] != labels[index, None]
        shares.append(other.to(points.dtype).mean(1))
    return torch.cat(shares)


def disagreement_among(rows: Tensor, labels: Tensor, k: int) -> Tensor:
    """Returns the same for training rows, each judged by the others, itself left out, (n,).

    Args:
        rows: (n, d).
        labels: (n,) int64.
        k: neighbours, cut to the n - 1 other rows; NaN for the only row.
    """
    count = min(k, len(rows) - 1)
    shares = []
    for index, similarity in Cosines(rows, rows).blocks():
        itself = index[:, None]
        similarity.scatter_(1, itself, -torch.inf)
        nearest = largest(similarity, count)
        other = labels[nearest] != labels[index, None]
        shares.append(other.to(rows.dtype).mean(1))
    return torch.cat(shares)
