"""Spectral signatures (Tran, Li & Madry, NeurIPS 2018, arXiv 1811.00636): poison leans on a class's top singular direction.

Needs: features of the training set.

Cost: a forward pass over it, and one singular value decomposition (n_c, d) a class.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.features import Layer, by_class, centred, check_layer, features_of
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class SpectralSignatures:
    """Squared projection of a row's centred features on the top right singular vector of its class (algorithm 1).

    Centred by the class's own mean: without it the direction is that of the mean, and the score that of a feature's length.

    Attributes:
        layer: see `defenses.features.encoder`; "penultimate" is the paper's.

    Raises:
        ValueError: an unknown layer.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    layer: Layer = "penultimate"

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0; 0 for the only row of a class."""
        train = evidence.trace.train
        return by_class(features_of(evidence.trace, self.layer, train)[0], train.y, top_projection)


def top_projection(rows: Tensor) -> Tensor:
    """Returns <r_i - mean, v>^2 for the top right singular vector v of the centred rows (r, d), (r,)."""
    apart = centred(rows)
    v = torch.linalg.svd(apart, full_matrices=False).Vh[0]
    scores: Tensor = (apart @ v).square()
    return scores
