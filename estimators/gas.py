"""GAS, gradient aggregated similarity (Hammoudeh & Lowd, CCS 2022, arXiv 2201.10055): TracIn with
renormalised gradients.

Cost: that of TracIn at the checkpoints.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, get_args

from torch import Tensor

from estimators.kit.checkpoints import checkpoint_sum, total_rate
from poisonbench.checks import check_choice
from poisonbench.contracts.protocols import RowScorer, Scorer
from poisonbench.contracts.scope import Scope, check_scope
from poisonbench.device.precision import Precision
from poisonbench.gradients import Form, layer_norms
from poisonbench.training.trace import Trace, check_trace


@dataclass(frozen=True)
class GAS:
    """sum_k eta_k cos(g_i(theta_k), g_test(theta_k)) (eq. 11).

    For cross entropy computed on margin gradients, which have the direction of the loss gradients
    at any confidence: scores do not change when every instance's loss is multiplied by a positive
    constant of its own.

    Attributes:
        layerwise: the cosine per layer, summed over the layers (GAS-L).
        precision: "tf32": products and convolutions on CUDA round their factors to 11 bits: nearly
            three times as fast for a residual net (`experiments/results/gpu-h200.md`). "bf16": the
            model, the data, what passes through the layers and the gradients multiplied are rounded
            to bfloat16, 8 bits: each by up to .4 %, scores by a hundredth or two of their norm in a
            few layers, and the more the deeper; a single score more, where a rectifier or a maximum
            turns over. Logits too: loss gradients of a point of logit f change by .004 f. Norms and
            sums of products are in float32, as scores are. It takes runs in float32, and is slower
            on most CPUs.
        scope: "label": the products alone with training rows that carry a point's label, as the
            detectors read that compare them among themselves; NaN for the others.

    Raises:
        ValueError: no such precision or scope.
        ConfigError: (when scores are asked for) "bf16", and the run is not in float32.
        ModelError: (likewise) "bf16", and the model does not run in bfloat16, or its logits are far
            from what they were.
    """

    needs: ClassVar[tuple[str, ...]] = ("checkpoints",)

    layerwise: bool = False
    precision: Precision = field(
        default="full", metadata={"configured": "when changed"}
    )
    scope: Scope = field(default="all", metadata={"configured": "when changed"})

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, get_args(Precision))
        check_scope(self.scope)

    @property
    def gives(self) -> Scope:
        """Of which training rows there are scores."""
        return self.scope

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); there is nothing to pay upfront."""
        check_trace(trace, self)
        return self._summed(trace)

    def fit_rows(self, trace: Trace) -> RowScorer:
        """Returns the scorer of blocks of training rows."""
        check_trace(trace, self)
        summed = self._summed(trace)
        return lambda test, rows: summed(test, rows=rows)

    def _summed(self, trace: Trace) -> "partial[Tensor]":
        return partial(
            checkpoint_sum,
            trace,
            form=self.form(trace),
            precision=self.precision,
            scope=self.scope,
        )

    def per_cosine(self, trace: Trace) -> float | None:
        """Returns what a cosine at the final model counts in the scores of a run.

        None where the scores are something else: of several checkpoints, of layers, or rounded.
        """
        whole = type(self) is GAS and not self.layerwise and self.precision == "full"
        if not whole or len(trace.checkpoints) != 1:
            return None
        return trace.checkpoints[0].lr

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,): the sum of the weights.

        So it is also where a gradient is 0, which has no direction, and the score 0. With
        `layerwise`, that times the number of layers in which its gradient is not 0.
        """
        check_trace(trace, self)
        train = trace.train
        if not self.layerwise:
            return train.zeros(len(train)) + total_rate(trace)
        scores = train.zeros(len(train))
        for k, checkpoint in enumerate(trace.checkpoints):
            norms = layer_norms(trace.model(k), train, Form.of(trace.loss, "layer"))
            live = (norms > 0).sum(0)
            scores += checkpoint.lr * live.to(scores.dtype)
        return scores

    def form(self, trace: Trace) -> Form:
        """Returns which gradients are multiplied."""
        return Form.of(trace.loss, "layer" if self.layerwise else "all")
