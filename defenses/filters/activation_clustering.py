"""Activation clustering (Chen et al., SafeAI 2019, arXiv 1811.03728): poison splits a class in two.

Needs: features of the training set.

Cost: a forward pass over it, and for each class a singular value decomposition (n_c, d) and
2-means.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from defenses.kit.features import Layer, centred, check_layer, class_masks, features_of
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.seeding import Outside


@dataclass(frozen=True)
class ActivationClustering:
    """How far a row leans to the smaller of the two clusters of its class.

    The paper removes whole clusters, judged by size or silhouette. Here a row scores its own signed
    silhouette to the two centres, (a - b) / max(a, b) with the distance a to the larger and b to
    the smaller cluster, times the share by which the clusters differ in size: a clean class splits
    into about equal halves, a poisoned one into the many and the few.

    Attributes:
        dimensions: principal components kept; the paper's are 10 independent ones.
        layer: see `defenses.kit.features.encoder`; "penultimate" is the paper's.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    dimensions: int = 10
    layer: Layer = "penultimate"

    def __post_init__(self) -> None:
        check_at_least("dimensions", self.dimensions, 1)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) in [-1, 1]; 0 for a class with fewer than 3 rows."""
        check_rows(evidence)
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)
        scores = rows.new_zeros(len(rows))
        for own in class_masks(train.y, least=3):
            parts = _components(rows[own], self.dimensions)
            scores[own] = _leaning(parts)
        return scores


def _components(rows: Tensor, dimensions: int) -> Tensor:
    """Returns the first principal components of the rows (r, d), (r, min(dimensions, r, d))."""
    apart = centred(rows)
    u, s, _ = torch.linalg.svd(apart, full_matrices=False)
    parts: Tensor = u * s
    return parts[:, :dimensions]


def _leaning(parts: Tensor) -> Tensor:
    """Returns the scores of the rows of one class from their components (r, k), (r,)."""
    if not bool(parts.any()):
        return parts.new_zeros(len(parts))
    # started from the halves on the two sides of the mean along the first component: no random
    # draw, whatever the order
    side = parts[:, 0] > 0
    below = parts[~side].mean(0)
    above = parts[side].mean(0)
    start = torch.stack([below, above]).cpu()
    clusters, centres = _two_means(parts, start)
    sizes = torch.bincount(clusters, minlength=2)
    distance = torch.cdist(parts, centres)
    few = int(sizes.argmin())
    to_many = distance[:, 1 - few]
    to_few = distance[:, few]
    difference = sizes.max() - sizes.min()
    lopsided = float(difference / sizes.sum())
    leaning = lopsided * (to_many - to_few)
    return leaning / torch.maximum(to_many, to_few)


def _two_means(parts: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the cluster of each row (r,), on the CPU, and both centres (2, k)."""
    # what scikit-learn imports the first time draws from Python's generator on some machines
    with Outside().drawing(0):
        from sklearn.cluster import KMeans  # slow to import, and few processes need it

        clustering = KMeans(2, init=start.numpy(), n_init=1)
        found = clustering.fit(parts.cpu().numpy())
    centres = torch.as_tensor(found.cluster_centers_).to(parts)
    return torch.as_tensor(found.labels_), centres
