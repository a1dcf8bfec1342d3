"""Label errors by cleanlab, which the extra `bench` installs; a filter of ours.

Imported only where it is installed. It works on the probabilities of our own filter.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from defenses.filters.confident_learning import held_out_probabilities, told_errors
from poisonbench.contracts.values import Evidence


@dataclass(frozen=True)
class Cleanlab:
    """cleanlab's `find_label_issues`; its errors first, then by margin.

    Attributes:
        folds: of the cross-validation.
        filter_by: cleanlab's way to choose the errors.
    """

    uses: ClassVar[tuple[str, ...]] = ("retraining",)

    folds: int = 5
    filter_by: Literal["prune_by_noise_rate", "confident_learning"] = (
        "prune_by_noise_rate"
    )

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (n,): in [0, 1], and in [1, 2] for a label error."""
        from cleanlab.filter import find_label_issues

        probability = held_out_probabilities(evidence, self.folds)
        labels = evidence.trace.train.y
        found: Any = find_label_issues(
            labels.cpu().numpy(),
            probability.double().cpu().numpy(),
            filter_by=self.filter_by,
            n_jobs=1,
        )
        errors = torch.from_numpy(found).to(labels.device)
        return told_errors(probability, labels, errors)
