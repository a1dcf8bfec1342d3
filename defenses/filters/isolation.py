"""Isolation of anti-backdoor learning: a backdoor is learnt first.

Source: ABL (Li et al., NeurIPS 2021, arXiv 2110.11571).

Needs: an early checkpoint.

Cost: a forward pass over the training set.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from defenses.filters.loss_rank import losses
from defenses.kit.evidence import check_rows
from poisonbench.checks import check_at_least
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class Isolation:
    """Minus the loss under an early checkpoint.

    The paper also trains with local gradient ascent, which holds all losses near a constant so that
    those of the poison fall below; a filter sees the victim as it was trained, so this is the plain
    ranking of that paper.

    Attributes:
        checkpoint: which, 0 the first.

    Raises:
        ValueError: a negative checkpoint.
    """

    uses: ClassVar[tuple[str, ...]] = ()

    checkpoint: int = 0

    def __post_init__(self) -> None:
        check_at_least("checkpoint", self.checkpoint, 0)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,) <= 0.

        Raises:
            ValueError: there is no such checkpoint.
        """
        check_rows(evidence)
        there = len(evidence.trace.checkpoints)
        if self.checkpoint >= there:
            rule = f"checkpoint must be below the {there} that the recipe keeps"
            raise ValueError(f"{rule}, got {self.checkpoint}")
        return -losses(evidence, self.checkpoint)
