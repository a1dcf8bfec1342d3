"""Training gradient norms alone: the floor that an influence detector must clear.

It is blind to the probe point but for its label.

Cost: K passes over the training set. Source: the tail statistic is that of `tail-heaviness`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from defenses.kit.evidence import check_points
from defenses.kit.scale import Scale
from defenses.kit.tails import Scoped, check_tail
from poisonbench.contracts.values import Evidence
from poisonbench.gradients import Form, gradient_norms
from poisonbench.training.trace import check_trace


@dataclass(frozen=True)
class NormOnly:
    """Tail heaviness of v_i = sum_k eta_k |g_i(theta_k)| among the rows of the predicted label.

    All points of one predicted label score the same: it finds the label, not the point.

    Attributes:
        k: which of the largest.
        scale: "qn" or "mad".

    Raises:
        ValueError: a value out of its range, naming the rule and the value.
    """

    uses: ClassVar[tuple[str, ...]] = ("gradients",)
    needs: ClassVar[tuple[str, ...]] = ("checkpoints",)

    k: int = 10
    scale: Scale = "qn"

    def __post_init__(self) -> None:
        check_tail(self.k, self.scale)

    def __call__(self, evidence: Evidence) -> Tensor:
        """Returns (m,): larger = the label has rows with gradients far longer than the rest."""
        check_points(evidence)
        trace = evidence.trace
        check_trace(trace, self)
        parts = []
        for k, checkpoint in enumerate(trace.checkpoints):
            norms = gradient_norms(trace.model(k), trace.train, Form(loss=trace.loss))
            parts.append(checkpoint.lr * norms)
        lengths = torch.stack(parts).sum(0)  # (n,)
        labels, place = evidence.test.y.unique(return_inverse=True)
        each = Scoped(
            values=lengths.expand(len(labels), -1),
            points=torch.arange(len(labels), device=labels.device),
            labels=labels,
            train_labels=trace.train.y,
            scope="label",
        )
        of_label = each.tails(self.k, each.spread(self.scale))
        return of_label[place]
