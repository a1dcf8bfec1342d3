"""TracIn (Pruthi et al., NeurIPS 2020, arXiv 2002.08484): influence as the loss change that each step on an instance brings.

Needs: checkpoints with their learning rates, or every step (by replay).

Cost: checkpoints O(K (n + m) p + K n m p), steps O(T (b + m) p + T b m p) after one replay; O(n m) memory beyond the engine's.
With a projection on d directions O(K n d p) once and then O(K m d (p + n)), O(d p + K n d) memory.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from estimators.kit.checkpoints import checkpoint_sum
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients.products import Form, dot_products, gradient_norms, project
from poisonbench.seeding import generator
from poisonbench.training import replay
from poisonbench.training.trace import Trace, check_points, check_trace


@dataclass(frozen=True)
class TracIn:
    """Sums eta <g_i, g_test> over the training run.

    Attributes:
        mode: "checkpoints": sum_k eta_k <g_i(theta_k), g_test(theta_k)> (TracInCP, section 3.2);
            "steps": sum over the steps with i in the batch of (eta_t / b) <g_i, g_test> at theta_t (eq. 1, by replay).
        layers: "all", or "last" for the gradients of the head alone (section 3.3).
        renormalize: cosines in place of dot products; with mode="checkpoints" that is GAS.
        projection: d, to replace the dot products at the checkpoints by those of d random projections of the gradients: unbiased,
            with a standard error of at most sqrt(2 / d) |g_i| |g_test|. `fit` projects the training set once, and new
            test points cost a product of (m, d) and (d, n). None for the dot products themselves.
        seed: of the projection.

    Raises:
        ValueError: a field has none of its values, or a projection is combined with "steps" or renormalisation.
    """

    mode: Literal["checkpoints", "steps"] = "checkpoints"
    layers: Literal["all", "last"] = "all"
    renormalize: bool = False
    projection: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("checkpoints", "steps"):
            raise ValueError(f"mode must be 'checkpoints' or 'steps', got {self.mode!r}")
        if self.layers not in ("all", "last"):
            raise ValueError(f"layers must be 'all' or 'last', got {self.layers!r}")
        if self.projection is not None and self.projection < 1:
            raise ValueError(f"projection must be at least 1, got {self.projection}")
        if self.projection is not None and (self.mode == "steps" or self.renormalize):
            raise ValueError("projection needs mode='checkpoints' and renormalize=False")

    @property
    def form(self) -> Form:
        """The gradients that are multiplied."""
        return Form("margin", "all", self.layers) if self.renormalize else Form(layers=self.layers)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); only a projection has something to pay upfront."""
        check_trace(trace)
        if self.projection is not None:
            return self._projected(trace, self.projection)
        if self.mode == "checkpoints":
            return lambda test: checkpoint_sum(trace, test, self.form)
        return lambda test: _every_step(trace, test, self.form)

    def _projected(self, trace: Trace, d: int) -> Scorer:
        train = [self._features(trace, k, trace.train, d) for k in range(len(trace.checkpoints))]

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            parts = (
                c.lr * self._features(trace, k, test, d).T @ train[k]
                for k, c in enumerate(trace.checkpoints)
            )
            return torch.stack(list(parts)).sum(0)

        return score

    def _features(self, trace: Trace, k: int, data: Dataset, d: int) -> Tensor:
        """Returns the gradients at checkpoint k on d random directions, (d, rows); the same directions for the same k."""
        model, g = trace.model(k), generator(self.seed, "projection", k)
        parameters = (
            model.get_submodule("head").named_parameters("head")
            if self.layers == "last"
            else model.named_parameters()
        )
        directions = {
            name: torch.randn((d, *p.shape), generator=g, dtype=p.dtype).to(p.device)
            for name, p in parameters
            if p.requires_grad
        }
        return project(model, data, directions, self.form).div(d**0.5)

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), without the scores of the others."""
        check_trace(trace)
        if self.renormalize and self.mode == "checkpoints":
            return trace.train.x.new_full((len(trace.train),), sum(c.lr for c in trace.checkpoints))
        scores = trace.train.x.new_zeros(len(trace.train))
        if self.mode == "checkpoints":
            for k, c in enumerate(trace.checkpoints):
                scores += c.lr * gradient_norms(trace.model(k), trace.train, self.form) ** 2
            return scores
        for step in replay(trace):
            norms = (
                1.0
                if self.renormalize
                else gradient_norms(step.model, trace.train.take(step.rows), self.form) ** 2
            )
            scores[step.rows] += step.lr / len(step.rows) * norms
        return scores


def _every_step(trace: Trace, test: Dataset, form: Form) -> Tensor:
    check_points(trace, test)
    scores = test.x.new_zeros(len(test), len(trace.train))
    for step in replay(trace):
        dots = dot_products(step.model, trace.train.take(step.rows), test, form)
        scores.index_add_(1, step.rows, dots, alpha=step.lr / len(step.rows))
    return scores
