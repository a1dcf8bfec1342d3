"""TRAK (Park et al., ICML 2023, arXiv 2303.14186): influence in a linear model of the margins, on
random projections of their gradients.

Cost: for each of M models O(n p) for the projected gradients and O(n k^2 + k^3) for the Gram
matrix, beside the training of the models; m new test points O(M m (p + k^2 + n k)). O(M k (n + k))
memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from estimators.kit.retraining import random_subsets
from poisonbench.checks import (
    check_at_least,
    check_between,
    check_choice,
    check_fraction,
    check_not_negative,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.gradients import Form, Layers, Sketch
from poisonbench.losses import check_cross_entropy
from poisonbench.models import predict
from poisonbench.notes import note
from poisonbench.objectives import margins
from poisonbench.seeding import derive, generator
from poisonbench.training import train_many
from poisonbench.training.trace import Trace, check_points, check_trace

Source = Literal["retraining", "checkpoints"]


@dataclass(frozen=True)
class TRAK:
    """Scores phi(z)^T (Phi^T Phi + r I)^-1 phi_i (1 - p_i).

    phi are projected gradients of the margin log(p / (1 - p)), Phi (n, k) those of the training
    set, p_i is what the model gives to the label of instance i. With several models the first
    factor, up to phi_i, and the second are means over them (section 3.2, without thresholds for
    sparse scores). The score is the change of the margin at z, in the linear model, by which
    instance i raises it.

    Attributes:
        models: M; 1 takes the final model alone.
        source: of more than one: "retraining": trained on random subsets of the training set;
            "checkpoints": the last ones of the run.
        fraction: share of the training set on which a model is trained again.
        dimensions: k, of the projection.
        ridge: r in mean eigenvalues of Phi^T Phi. The paper has none; then there is no inverse
            for k above n, and for k of the order of n scores are mostly noise. 3 was chosen by
            linear datamodeling scores on the digits (`experiments/results/truth.md`).
        layers: "all", or "last" for the gradients of the head alone.
        seed: of projections, subsets and training.

    Raises:
        ValueError: a field out of its range.
    """

    models: int = 1
    source: Source = "retraining"
    fraction: float = 0.5
    dimensions: int = 2048
    ridge: float = 3.0
    layers: Layers = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least("models", self.models, 1)
        check_choice("source", self.source, get_args(Source))
        check_fraction("fraction", self.fraction)
        check_at_least("dimensions", self.dimensions, 1)
        check_not_negative("ridge", self.ridge)
        check_choice("layers", self.layers, get_args(Layers))

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        last = self.layers == "last"
        if self.models == 1:
            return ("final model", "head") if last else ("final model",)
        if self.source == "retraining":
            return ("retraining", "head") if last else ("retraining",)
        return ("checkpoints", "head") if last else ("checkpoints",)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n), after training and projecting.

        Raises:
            ConfigError: a loss other than cross entropy.
        """
        fitted = self._fitted(trace)
        doubt = _mean_doubt(fitted)

        def score(test: Dataset) -> Tensor:
            check_points(trace, test)
            products = [part.products(test) for part in fitted]
            return torch.stack(products).mean(0) * doubt

        return score

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns each training instance's influence on itself, (n,), without the others."""
        fitted = self._fitted(trace)
        own = [part.own() for part in fitted]
        return torch.stack(own).mean(0) * _mean_doubt(fitted)

    def _fitted(self, trace: Trace) -> list["_Linear"]:
        check_trace(trace, self)
        check_cross_entropy(trace.loss, "TRAK")
        form = Form("margin", layers=self.layers)
        fitted = []
        for k, model in enumerate(self.models_of(trace)):
            seed = derive(self.seed, "trak", k)
            sketch = Sketch.of(model, trace.train, self.dimensions, seed, form)
            fitted.append(_Linear.of(sketch, trace.train, self.ridge))
        return fitted

    def models_of(self, trace: Trace) -> Iterator[nn.Module]:
        """Yields the M models, without those that diverged.

        Raises:
            ConfigError: the run kept fewer checkpoints.
            ValueError: all of them diverged, or a subset has no instances or all.
        """
        if self.models == 1:
            yield trace.model()
        elif self.source == "checkpoints":
            kept = len(trace.checkpoints)
            if kept < self.models:
                raise ConfigError(
                    [f"TRAK on {self.models} checkpoints, and the run kept {kept}"],
                    f"models={kept}, source='retraining', or keep more of them in training",
                )
            for k in range(kept - self.models, kept):
                yield trace.model(k)
        else:
            yield from self._retrained(trace)

    def masks(self, n: int, seed: int) -> Tensor:
        """Returns the subsets (M, n) bool of n instances; ValueError where one has none or all."""
        size = round(self.fraction * n)
        check_between("the rows of a subset", size, 1, n - 1)
        draws = generator(seed, "trak", self.seed)
        return random_subsets(self.models, n, size, draws)

    def _retrained(self, trace: Trace) -> Iterator[nn.Module]:
        masks = self.masks(len(trace.train), trace.seed)
        seeds = [derive(trace.seed, "trak", self.seed, k) for k in range(self.models)]
        recipe = trace.by_recipe
        ensemble = train_many(trace.train, masks, recipe, seeds, scratch=trace.scratch)
        note("diverged_models", int(ensemble.diverged.sum()))
        finished = (~ensemble.diverged).nonzero().flatten().tolist()
        if not finished:
            raise ValueError(f"all of {self.models} models diverged")
        for k in finished:
            model = trace.model()
            model.load_state_dict(ensemble.state(k))
            yield model


def _mean_doubt(fitted: list["_Linear"]) -> Tensor:
    return torch.stack([part.doubt for part in fitted]).mean(0)


@dataclass(frozen=True, eq=False)
class _Linear:
    """The linear model of the margins around one of the models.

    Attributes:
        sketch: the projection of its gradients.
        features: (n, k) in float64, Phi.
        factor: (k, k), the Cholesky factor of Phi^T Phi + r I.
        doubt: (n,), 1 - p of every training instance, right at any confidence.
    """

    sketch: Sketch
    features: Tensor
    factor: Tensor
    doubt: Tensor

    @classmethod
    def of(cls, sketch: Sketch, train: Dataset, ridge: float) -> "_Linear":
        """Returns that of a training set; the Gram matrix is inverted in float64.

        Raises:
            ValueError: gradients are not finite, or there is no inverse.
        """
        features = sketch(train).double()
        gram = features.T @ features
        shift = ridge * float(gram.diagonal().mean())
        gram.diagonal().add_(shift)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed):
            raise ValueError(
                f"the Gram matrix of {sketch.k} projections has no inverse at ridge {ridge}: "
                f"take a larger ridge, or fewer dimensions than the {len(train)} instances"
            )
        logits = predict(sketch.model, train.x)
        doubt = torch.sigmoid(-margins(logits, train.y))
        return cls(sketch, features, factor, doubt)

    def products(self, test: Dataset) -> Tensor:
        """Returns phi(z)^T (Phi^T Phi + r I)^-1 phi_i for m test points, (m, n)."""
        points = self.sketch(test).double()
        solved = torch.cholesky_solve(points.T, self.factor)
        products = solved.T @ self.features.T
        return products.to(self.doubt.dtype)

    def own(self) -> Tensor:
        """Returns phi_i^T (Phi^T Phi + r I)^-1 phi_i, (n,)."""
        half: Tensor = torch.linalg.solve_triangular(
            self.factor, self.features.T, upper=False
        )
        return half.square().sum(0).to(self.doubt.dtype)
