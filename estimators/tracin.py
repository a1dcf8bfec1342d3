"""TracIn (Pruthi et al., NeurIPS 2020, arXiv 2002.08484): influence as the loss change that each
step on an instance brings.

Cost: checkpoints O(K (n + m) p + K n m p), steps O(T (b + m) p + T b m p) after one replay; O(n m)
memory beyond the engine's. With a projection on d directions O(K n d p) once and then
O(K m d (p + n)), O(d p + K n d) memory.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from estimators.kit.checkpoints import (
    Weights,
    checkpoint_sum,
    random_directions,
    tell_optimizer,
    total_rate,
    weights_of,
)
from poisonbench.checks import check_at_least, check_choice
from poisonbench.contracts.protocols import RowScorer, Scorer
from poisonbench.contracts.scope import Scope, check_scope
from poisonbench.data import Dataset
from poisonbench.device.precision import Precision
from poisonbench.gradients import (
    Form,
    Layers,
    dot_products,
    gradient_norms,
    project,
)
from poisonbench.training import replay
from poisonbench.training.trace import Trace, check_points, check_trace

Mode = Literal["checkpoints", "steps"]
LATER = {"configured": "when changed"}


@dataclass(frozen=True)
class TracIn:
    """Sums eta <g_i, g_test> over the training run.

    These are the loss changes that steps of SGD bring. AdamW scales every coordinate of a step by
    its own, so that the sum is not that of the changes: it warns.

    Attributes:
        mode: "checkpoints": sum_k eta_k <g_i(theta_k), g_test(theta_k)> (TracInCP, section 3.2);
            "steps": sum over the steps with i in the batch of (eta_t / b) <g_i, g_test> at theta_t
            (eq. 1, by replay).
        layers: "all", or "last" for the gradients of the head alone (section 3.3).
        renormalize: cosines in place of dot products; with mode="checkpoints" that is GAS.
        projection: d, to replace the dot products at the checkpoints by those of d random
            projections of the gradients: unbiased, with a standard error of at most sqrt(2 / d)
            |g_i| |g_test|. `fit` projects the training set once, and new test points cost a product
            of (m, d) and (d, n). None for the dot products themselves.
        seed: of the projection.
        weights: of the checkpoints: "rate", eta_k; "balanced": one over the mean squared norm of
            the training gradients there. Under a cosine schedule the last rates are near 0, so that
            "rate" hardly sees the final model, and early gradients are the longest: balanced sums
            have higher linear datamodeling scores (`experiments/results/truth.md`).
        precision: see GAS.
        scope: see GAS.

    Raises:
        ValueError: a field has none of its values, or is combined with one that it has no meaning
            beside.
    """

    mode: Mode = "checkpoints"
    layers: Layers = "all"
    renormalize: bool = False
    projection: int | None = None
    seed: int = 0
    weights: Weights = field(default="rate", metadata=LATER)
    precision: Precision = field(default="full", metadata=LATER)
    scope: Scope = field(default="all", metadata=LATER)

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, get_args(Mode))
        check_choice("layers", self.layers, get_args(Layers))
        check_at_least("projection", self.projection, 1)
        check_choice("weights", self.weights, get_args(Weights))
        check_choice("precision", self.precision, get_args(Precision))
        check_scope(self.scope)
        whole = self.mode == "checkpoints" and self.projection is None
        way = "needs mode='checkpoints' and no projection"
        if self.precision != "full" and not whole:
            raise ValueError(f"precision={self.precision!r} {way}")
        if self.scope != "all" and not whole:
            raise ValueError(f"scope={self.scope!r} {way}")
        if self.mode == "checkpoints" and not self.renormalize:
            return
        needs = "needs mode='checkpoints' and renormalize=False"
        if self.projection is not None:
            raise ValueError(f"projection {needs}")
        if self.weights != "rate":
            raise ValueError(f"weights={self.weights!r} {needs}")

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        if self.mode == "steps":
            return ("steps",)
        if self.layers == "last":
            return ("checkpoints", "head")
        return ("checkpoints",)

    @property
    def gives(self) -> Scope:
        """Of which training rows there are scores."""
        return self.scope

    def form(self, trace: Trace) -> Form:
        """Returns which gradients are multiplied: those of the loss that the run descends."""
        return Form.of(trace.loss, "all" if self.renormalize else "none", self.layers)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); only a projection has something to pay upfront."""
        check_trace(trace, self)
        tell_optimizer(trace)
        if self.projection is not None:
            return self._projected(trace, self.projection)
        if self.mode == "checkpoints":
            return self._summed(trace)
        return lambda test: _every_step(trace, test, self.form(trace))

    def fit_rows(self, trace: Trace) -> RowScorer | None:
        """Returns the scorer of blocks of training rows, without "steps" and a projection."""
        if self.mode == "steps" or self.projection is not None:
            return None
        check_trace(trace, self)
        tell_optimizer(trace)
        summed = self._summed(trace)
        return lambda test, rows: summed(test, rows=rows)

    def _summed(self, trace: Trace) -> "partial[Tensor]":
        return partial(
            checkpoint_sum,
            trace,
            form=self.form(trace),
            weights=self._weights(trace),
            precision=self.precision,
            scope=self.scope,
        )

    def _weights(self, trace: Trace) -> list[float]:
        """Returns the weight of every checkpoint."""
        return weights_of(trace, self.form(trace), self.weights)

    def _projected(self, trace: Trace, d: int) -> Scorer:
        weights = self._weights(trace)
        directions = random_directions(trace, self.layers, d, self.seed)

        def features(k: int, data: Dataset) -> Tensor:
            form = self.form(trace)
            projected = project(trace.model(k), data, directions(k), form)
            return projected.div(d**0.5)

        train = [features(k, trace.train) for k in range(len(weights))]

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            parts = []
            for k, weight in enumerate(weights):
                points = features(k, test)
                parts.append(weight * points.T @ train[k])
            return torch.stack(parts).sum(0)

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), alone."""
        check_trace(trace, self)
        if self.mode == "steps":
            return self._own_steps(trace)
        train = trace.train
        if self.renormalize:
            return train.zeros(len(train)) + total_rate(trace)
        scores = train.zeros(len(train))
        for k, weight in enumerate(self._weights(trace)):
            norms = gradient_norms(trace.model(k), train, self.form(trace))
            scores += weight * norms**2
        return scores

    def _own_steps(self, trace: Trace) -> Tensor:
        scores = trace.train.zeros(len(trace.train))
        for step in replay(trace):
            share = step.lr / len(step.rows)
            if self.renormalize:
                scores[step.rows] += share
                continue
            batch = trace.train.take(step.rows)
            norms = gradient_norms(step.model, batch, self.form(trace))
            scores[step.rows] += share * norms**2
        return scores


def _every_step(trace: Trace, test: Dataset, form: Form) -> Tensor:
    check_points(trace, test)
    scores = test.zeros(len(test), len(trace.train))
    for step in replay(trace):
        batch = trace.train.take(step.rows)
        dots = dot_products(step.model, batch, test, form)
        share = step.lr / len(step.rows)
        scores.index_add_(1, step.rows, dots, alpha=share)
    return scores
