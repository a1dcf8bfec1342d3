"""KNN-Shapley: the exact Shapley values of a nearest-neighbour vote.

Source: Jia et al., VLDB 2019, arXiv 1908.08619.

Cost: O(n d + n log n) a test point, O(n) memory a test point of a block.
"""

import torch
from torch import Tensor

# distances of a block of test points: what a CPU's cache holds, and a GPU fills its cores with
ENTRIES = 1 << 19


def knn_shapley(
    train: Tensor,
    y: Tensor,
    test: Tensor,
    labels: Tensor,
    neighbours: int,
    entries: int = ENTRIES,
) -> Tensor:
    """Returns the Shapley values (m, n) of a vote among the nearest training instances.

    v(S) = (1/K) sum over the min(K, |S|) instances of S nearest to x_j of 1[y_i = y_j]: the votes
    of a subset of fewer than K instances are still divided by K, and v of the empty set is 0.
    Equally distant instances are ordered by their row.

    Args:
        train: (n, d) features.
        y: (n,) int64 labels.
        test: (m, d) features.
        labels: (m,) int64, the labels judged.
        neighbours: K >= 1, also above n.
        entries: distances that are held at once; at least one test point is done at a time.
    """
    if not len(test) or not len(train):
        return test.new_zeros(len(test), len(train))
    size = max(1, entries // len(train))
    blocks = zip(test.split(size), labels.split(size), strict=True)
    parts = []
    for points, wanted in blocks:
        order = _nearest_first(train, points)
        votes = y[order] == wanted[:, None]  # 1[y_(j) = y_test]
        ordered = recursion(votes.to(points.dtype), neighbours)
        values = torch.empty_like(ordered)
        parts.append(values.scatter_(1, order, ordered))
    return torch.cat(parts)


def _nearest_first(train: Tensor, points: Tensor) -> Tensor:
    """Returns the rows in ascending distance from each of b points, (b, n) int64."""
    # not by |a|^2 + |b|^2 - 2 ab: its rounding would tell copies of an instance apart, and break
    # their order
    distances = torch.cdist(points, train, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argsort(dim=1, stable=True)


def recursion(agrees: Tensor, K: int) -> Tensor:
    """Returns the values (b, n) of instances in ascending distance.

    Theorem 1 of the paper, and right for K > n, where the game is additive and each instance is
    worth 1[...] / K: s_(n) = 1[y_(n) = y] / max(K, n),
    s_(j) = s_(j+1) + (1[y_(j) = y] - 1[y_(j+1) = y]) min(K, j) / (K j).

    Args:
        agrees: (b, n), 1 where an instance has the test point's label, else 0.
        K: neighbours that vote.
    """
    n = agrees.shape[1]
    j = torch.arange(1, n, device=agrees.device, dtype=torch.float64)
    weights = j.clamp(max=K) / (K * j)
    nearer = agrees[:, :-1]
    farther = agrees[:, 1:]
    gains = (nearer - farther) * weights.to(agrees.dtype)
    last = agrees[:, -1:] / max(K, n)
    steps = torch.cat([gains, last], 1)
    farthest_first = steps.flip(1)
    values = farthest_first.cumsum(1, dtype=torch.float64)
    return values.flip(1).to(agrees.dtype)
