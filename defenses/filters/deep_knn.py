"""Deep k-nearest neighbours as a filter: training rows whose neighbours bear another label."""

from dataclasses import dataclass

from torch import Tensor

from defenses.baselines.deep_knn import Neighbours, disagreement_among
from defenses.kit.evidence import check_rows
from defenses.kit.features import features_of
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class DeepKNNFilter(Neighbours):
    """Disagreement of a row's neighbours, itself left out, with its label.

    The paper removes the rows that are outvoted.
    """

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) in [0, 1]; NaN for the only row."""
        check_rows(evidence)
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)
        return disagreement_among(rows, train.y, self.neighbours)
