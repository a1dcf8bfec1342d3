"""SPECTRE (Hayase, Kong, Somani & Oh, ICML 2021, arXiv 2104.11315): spectral signatures after robust whitening.

Needs: features of the training set.

Cost: a forward pass over it, a singular value decomposition (n_c, d) and some of (n_c, k) a class.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.features import Layer, by_class, centred, check_layer, features_of
from defenses.kit.scale import mad, median
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence

_STEPS = 100  # concentration converges in about ten


@dataclass(frozen=True)
class Spectre:
    """Quantum entropy scores (QUE) of the features of a class, whitened by the covariance of its most central rows.

    What poison adds to the variance is small against that of the clean rows along other directions; whitened by what the clean
    rows do, it stands out. The paper's robust covariance is replaced by concentration steps (Rousseeuw & Van Driessen,
    Technometrics 1999) from coordinate-wise medians: deterministic, and of the same purpose.

    Attributes:
        dimensions: top singular directions kept, k; at most a quarter of the rows of a class.
        contamination: largest share of a class that may be poison; so many rows stay out of the covariance.
        alpha: of QUE; 0 is the plain squared norm, large the top direction alone.
        layer: see `defenses.features.encoder`; "penultimate" is the paper's.

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    dimensions: int = 10
    contamination: float = 0.35
    alpha: float = 4.0
    layer: Layer = "penultimate"

    def __post_init__(self) -> None:
        check_at_least("dimensions", self.dimensions, 1)
        if not 0 < self.contamination < 0.5:
            raise ValueError(f"contamination must lie in (0, 0.5), got {self.contamination}")
        if self.alpha < 0:
            raise ValueError(f"alpha must be at least 0, got {self.alpha}")
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0; 0 for a class with fewer than 8 rows."""
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)[0]
        return by_class(rows, train.y, self._of_class, least=8)

    def _of_class(self, rows: Tensor) -> Tensor:
        u, s, _ = torch.linalg.svd(centred(rows), full_matrices=False)
        k = min(self.dimensions, len(rows) // 4, int((s > s[0] * 1e-6).sum()))
        if not k:
            return rows.new_zeros(len(rows))
        kept = max(int((1 - self.contamination) * len(rows)), k + 2)
        return que(whitened((u * s)[:, :k], kept), self.alpha)


def whitened(parts: Tensor, kept: int) -> Tensor:
    """Returns the rows (r, k) centred and whitened by mean and covariance of the `kept` of them with the least such distance."""
    z = (parts - median(parts.T)) / mad(parts.T).clamp(min=torch.finfo(parts.dtype).tiny ** 0.5)
    inside = torch.zeros(len(parts), dtype=torch.bool, device=parts.device)
    for _ in range(_STEPS):
        nearest = torch.zeros_like(inside)
        nearest[z.square().sum(1).topk(kept, largest=False).indices] = True
        if torch.equal(nearest, inside):
            break
        inside = nearest
        chosen = parts[inside]
        values, axes = torch.linalg.eigh(torch.cov(chosen.T).reshape(parts.shape[1], -1))
        floor = values[-1] * torch.finfo(parts.dtype).eps  # the central rows may lie in a plane
        z = (parts - chosen.mean(0)) @ axes / values.clamp(min=floor).sqrt()
    return z


def que(white: Tensor, alpha: float) -> Tensor:
    """Returns the quantum entropy score z_i' Q z_i / tr Q of each row of (r, k), (r,).

    Q = exp(alpha (S - I) / (|S| - 1)), S the second moment of the rows, |S| its largest eigenvalue.
    """
    values, axes = torch.linalg.eigh(white.T @ white / len(white))
    excess = values[-1] - 1
    powers = alpha * (values - 1) / excess if excess > 0 else torch.zeros_like(values)
    weights = torch.softmax(powers, 0)  # exp over its sum: the trace of Q
    scores: Tensor = (white @ axes).square() @ weights
    return scores
