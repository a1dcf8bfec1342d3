"""KNN-Shapley (Jia et al., VLDB 2019, arXiv 1908.08619): the exact Shapley values of a nearest-neighbour vote.

Cost: O(n d + n log n) a test point, O(n) memory a test point of a block.
"""

import torch
from torch import Tensor

ENTRIES = (
    1 << 19
)  # distances of a block of test points: what a CPU's cache holds, and a GPU fills its cores with


def knn_shapley(
    train: Tensor, y: Tensor, test: Tensor, labels: Tensor, neighbours: int, entries: int = ENTRIES
) -> Tensor:
    """Returns the Shapley values (m, n) of v(S) = (1/K) sum over the min(K, |S|) instances of S nearest to x_j of 1[y_i = y_j].

    The votes of a subset of fewer than K instances are still divided by K, and v of the empty set is 0. Equally distant instances
    are ordered by their row.

    Args:
        train: (n, d) features.
        y: (n,) int64 labels.
        test: (m, d) features.
        labels: (m,) int64, the labels judged.
        neighbours: K >= 1, also above n.
        entries: distances that are held at once; at least one test point is done at a time.
    """
    block = max(1, entries // max(len(train), 1))
    parts = [
        _block(train, y, x, c, neighbours)
        for x, c in zip(test.split(block), labels.split(block), strict=True)
    ]
    return torch.cat(parts) if parts else test.new_zeros(0, len(train))


def _block(train: Tensor, y: Tensor, test: Tensor, labels: Tensor, K: int) -> Tensor:
    # not by |a|^2 + |b|^2 - 2 ab: its rounding would tell copies of an instance apart, and break their order
    distances = torch.cdist(test, train, compute_mode="donot_use_mm_for_euclid_dist")
    order = distances.argsort(dim=1, stable=True)
    agrees = (y[order] == labels[:, None]).to(distances.dtype)  # 1[y_(j) = y_test], nearest first
    return torch.empty_like(agrees).scatter_(1, order, recursion(agrees, K))


def recursion(agrees: Tensor, K: int) -> Tensor:
    """Returns the values (b, n) of instances in ascending distance, (b, n) of them agreeing with the test point's label.

    Theorem 1 of the paper, and right for K > n, where the game is additive and each instance is worth 1[...] / K:
    s_(n) = 1[y_(n) = y] / max(K, n), s_(j) = s_(j+1) + (1[y_(j) = y] - 1[y_(j+1) = y]) min(K, j) / (K j).
    """
    n = agrees.shape[1]
    j = torch.arange(1, n, device=agrees.device, dtype=torch.float64)
    weights = (j.clamp(max=K) / (K * j)).to(agrees.dtype)
    steps = torch.cat([(agrees[:, :-1] - agrees[:, 1:]) * weights, agrees[:, -1:] / max(K, n)], 1)
    return steps.flip(1).cumsum(1, dtype=torch.float64).flip(1).to(agrees.dtype)
