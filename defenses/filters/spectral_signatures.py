"""Spectral signatures: poison leans on the top singular direction of its class.

Source: Tran, Li & Madry, NeurIPS 2018, arXiv 1811.00636.

Needs: features of the training set.

Cost: a forward pass over it, and for each class a singular value decomposition (n_c, d).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_rows
from defenses.kit.features import Layer, centred, check_layer, class_masks, features_of
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class SpectralSignatures:
    """Squared projection of a row's centred features on the top right singular vector of its class.

    That is algorithm 1. Centred by the class's own mean: without it the direction is that of the
    mean, and the score that of a feature's length.

    Attributes:
        layer: see `defenses.kit.features.encoder`; "penultimate" is the paper's.

    Raises:
        ValueError: an unknown layer.
    """

    uses: ClassVar[tuple[str, ...]] = ("features",)

    layer: Layer = "penultimate"

    def __post_init__(self) -> None:
        check_layer(self.layer)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0; 0 for the only row of a class."""
        check_rows(evidence)
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)
        scores = rows.new_zeros(len(rows))
        for own in class_masks(train.y):
            scores[own] = top_projection(rows[own])
        return scores


def top_projection(rows: Tensor) -> Tensor:
    """Returns <r_i - mean, v>^2 for the top right singular vector v of the centred rows, (r,).

    Args:
        rows: (r, d).
    """
    apart = centred(rows)
    directions = torch.linalg.svd(apart, full_matrices=False).Vh
    along: Tensor = apart @ directions[0]
    return along.square()
