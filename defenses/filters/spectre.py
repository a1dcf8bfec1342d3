"""SPECTRE: spectral signatures after robust whitening.

Source: Hayase, Kong, Somani & Oh, ICML 2021, arXiv 2104.11315.

Needs: features of the training set.

Cost: a forward pass over it, and for each class a singular value decomposition (n_c, d) and some of
(n_c, k).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from defenses.kit.features import Layer, centred, check_layer, class_masks, features_of
from defenses.kit.scale import mad, median
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence
from poisonbench.device.eigenvectors import eigh

_STEPS = 100  # concentration converges in about ten


@dataclass(frozen=True)
class Spectre:
    """Quantum entropy scores (QUE) of a class's features, whitened by its most central rows.

    What poison adds to the variance is small against that of the clean rows along other directions;
    whitened by what the clean rows do, it stands out. The paper's robust covariance is replaced by
    concentration steps (Rousseeuw & Van Driessen, Technometrics 1999) from coordinate-wise medians:
    deterministic, and of the same purpose.

    Attributes:
        dimensions: top singular directions kept, k; at most a quarter of the rows of a class.
        contamination: largest share of a class that may be poison; so many rows stay out of the
            covariance.
        alpha: of QUE; 0 is the plain squared norm, large the top direction alone.
        layer: see `defenses.kit.features.encoder`; "penultimate" is the paper's.

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
            raise ValueError(
                f"contamination must lie in (0, 0.5), got {self.contamination}"
            )
        check_at_least("alpha", self.alpha, 0)
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0; 0 for a class with fewer than 8 rows."""
        check_rows(evidence)
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)
        scores = rows.new_zeros(len(rows))
        for own in class_masks(train.y, least=8):
            scores[own] = self._of_class(rows[own])
        return scores

    def _of_class(self, rows: Tensor) -> Tensor:
        """Returns the scores of the rows (r, d) of one class, (r,)."""
        r = len(rows)
        apart = centred(rows)
        u, s, _ = torch.linalg.svd(apart, full_matrices=False)
        there = s > s[0] * 1e-6
        rank = int(there.sum())
        k = min(self.dimensions, r // 4, rank)
        if not k:
            return rows.new_zeros(r)
        clean = int((1 - self.contamination) * r)
        kept = max(clean, k + 2)
        parts = (u * s)[:, :k]
        white = whitened(parts, kept)
        return que(white, self.alpha)


def whitened(parts: Tensor, kept: int) -> Tensor:
    """Returns the rows (r, k) centred and whitened by their most central rows, (r, k).

    Mean and covariance are those of the `kept` rows of least distance by this very mean and
    covariance.
    """
    tiny = torch.finfo(parts.dtype).tiny ** 0.5
    apart = parts - median(parts.T)
    widths = mad(parts.T).clamp(min=tiny)
    z = apart / widths
    inside = torch.zeros_like(parts[:, 0], dtype=torch.bool)
    for _ in range(_STEPS):
        distance = z.square().sum(1)
        central = distance.topk(kept, largest=False).indices
        nearest = torch.zeros_like(inside)
        nearest[central] = True
        if torch.equal(nearest, inside):
            break
        inside = nearest
        z = _whitened_by(parts, parts[inside])
    return z


def _whitened_by(parts: Tensor, chosen: Tensor) -> Tensor:
    """Returns the rows (r, k) whitened by mean and covariance of the chosen ones (c, k), (r, k)."""
    k = parts.shape[1]
    covariance = torch.cov(chosen.T).reshape(k, k)
    variances, axes = eigh(covariance)
    rounding = torch.finfo(parts.dtype).eps
    floor = variances[-1] * rounding  # the central rows may lie in a plane
    widths = variances.clamp(min=floor).sqrt()
    apart = parts - chosen.mean(0)
    white: Tensor = apart @ axes / widths
    return white


def que(white: Tensor, alpha: float) -> Tensor:
    """Returns the quantum entropy score z_i' Q z_i / tr Q of each row of (r, k), (r,).

    Q = exp(alpha (S - I) / (|S| - 1)), S the second moment of the rows, |S| its largest eigenvalue.
    """
    moment = white.T @ white / len(white)
    values, axes = eigh(moment)
    excess = values[-1] - 1
    powers = torch.zeros_like(values)
    if excess > 0:
        powers = alpha * (values - 1) / excess
    weights = torch.softmax(powers, 0)  # exp over its sum: the trace of Q
    scores: Tensor = (white @ axes).square() @ weights
    return scores
