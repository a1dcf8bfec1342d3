"""Loss of a training row under the finished victim: what it never learnt is suspicious.

The small-loss rule of Han et al., NeurIPS 2018, arXiv 1804.06872, turned round.

Needs: the final model.

Cost: a forward pass over the training set.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from defenses.kit.evidence import check_rows
from poisonbench.contracts.values import Evidence
from poisonbench.losses import each
from poisonbench.models import predict


@dataclass(frozen=True)
class LossRank:
    """The loss at the row's label.

    Finds mislabelled rows; a backdoor is learnt well and lies at the other end.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) >= 0."""
        check_rows(evidence)
        return losses(evidence, -1)


def losses(evidence: Evidence, k: int) -> Tensor:
    """Returns the loss of every training row under the model of checkpoint `k`, (n,)."""
    train = evidence.trace.train
    model = evidence.trace.model(k)
    logits = predict(model, train.x)
    return each(evidence.trace.loss, logits, train.y)
