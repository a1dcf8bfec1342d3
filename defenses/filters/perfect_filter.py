"""The ground truth as a filter: the ceiling of every table, marked as an oracle.

Needs: the roles of the training rows, which no defender has.

Cost: none.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from defenses.kit.evidence import check_rows
from poisonbench.contracts.values import Evidence
from poisonbench.roles import POISON


@dataclass(frozen=True)
class PerfectFilter:
    """1 for poison, 0 for clean and cover rows."""

    uses: ClassVar[tuple[str, ...]] = ("oracle",)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) in {0, 1}.

        Raises:
            ValueError: the roles are not there.
        """
        check_rows(evidence)
        if evidence.role is None:
            raise ValueError(
                "perfect-filter needs the role (n,) of every training row, got None"
            )
        poisoned = evidence.role == POISON
        return poisoned.to(evidence.trace.train.x.device, evidence.trace.train.dtype)
