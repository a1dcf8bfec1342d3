"""Deep k-nearest neighbours as a filter: training rows whose neighbours bear another label."""

from dataclasses import dataclass

from torch import Tensor

from defenses.baselines.deep_knn import Neighbours, disagreement
from defenses.kit.features import features_of
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class DeepKNNFilter(Neighbours):
    """Disagreement of a training row's neighbours, itself left out, with its label; the paper removes the outvoted."""

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) in [0, 1]."""
        train = evidence.trace.train
        rows = features_of(evidence.trace, self.layer, train)[0]
        return disagreement(rows, train.y, rows, train.y, self.neighbours, itself=False)
