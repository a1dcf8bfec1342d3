"""Influence functions (Koh & Liang, ICML 2017, arXiv 1703.04730): the effect of leaving an instance out, to first order.

Needs: the final model.

Cost, for n training and m test instances, p parameters and C classes: "cg" and "lissa" O((n C + m) m p) a step, O(m p) memory;
"explicit" O(n C p^2 + p^3) once and O(m p^2), O(p^2) memory; "ekfac" two passes once and O(m p (inputs + outputs)).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from estimators.kit.solvers import (
    Product,
    cholesky,
    conjugate_gradients,
    directions,
    largest_eigenvalue,
    richardson,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Layers, ekfac, gradient_vectors, parameter_names
from poisonbench.gradients.curvature import (
    Kind,
    flatten,
    gauss_newton_product,
    hessian_product,
    unflatten,
)
from poisonbench.gradients.products import Form, gradient_norms, project
from poisonbench.memory import batches, halving, room
from poisonbench.seeding import generator
from poisonbench.training.trace import Trace

VECTORS = 8  # copies of the m vectors that a solver holds at once


@dataclass(frozen=True)
class InfluenceFunctions:
    """score_ji = (1/n) g_i^T H^-1 g_j at the final model, H = curvature of the mean loss + (weight decay + damping) I (eq. 2).

    That is L_j(without i) - L_j(with i) to first order, so positive = helped. Gradients are of the data loss, weight decay w is
    the recipe's, of the regulariser (w/2)|theta|^2.

    Attributes:
        solver: "cg": block conjugate gradients, all test points in one search space, so that within `tolerance` a point's
            scores depend on the points beside it; "explicit": Cholesky factors of H, up to 16,384
            parameters; "lissa": the recursion x <- x + (g - H x) / scale (section 3, Agarwal et al. 2017, arXiv 1602.03943), with
            damping inside H; "ekfac": see `poisonbench.ekfac`.
        curvature: "gauss-newton", positive semi-definite, or "hessian", which away from a minimum is not: test points for which
            "cg" meets curvature <= 0 get NaN and a warning.
        damping: added to the eigenvalues of H.
        convention: "A": the instance's term is dropped from (1/n) sum_i L_i + (w/2)|theta|^2; "B": the mean is then over
            n - 1, so that score_ji = (g_i + w theta)^T H^-1 g_j / (n - 1), whose sum over i is 0 at the optimum.
        renormalize: unit vectors g/|g| in place of g_i and g_j, taken from margin gradients, which point exactly the other way
            on both sides (Hammoudeh & Lowd 2022, arXiv 2201.10055). H stays.
        layers: "all" parameters, or "last" for the head's, with H restricted to them.
        tolerance: relative residual |g - H x| / |g| at which "cg" and "lissa" stop.
        max_steps: of "cg" and "lissa"; a warning names the worst residual when it was not enough.
        scale: of "lissa", above half the largest eigenvalue of H; None: that eigenvalue, by power iteration.
        batch: instances drawn for a step of "lissa"; None: all, without which the residual does not fall below the noise.
        samples: labels drawn an instance by "ekfac"; 0: the expectation over all labels.
        seed: of "lissa" and "ekfac".

    Raises:
        ValueError: a value out of its range, or a combination without meaning.
    """

    solver: Literal["explicit", "cg", "lissa", "ekfac"] = "cg"
    curvature: Kind = "gauss-newton"
    damping: float = 1e-2
    convention: Literal["A", "B"] = "A"
    renormalize: bool = False
    layers: Layers = "all"
    tolerance: float = 1e-2
    max_steps: int = 200
    scale: float | None = None
    batch: int | None = None
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "solver": ("explicit", "cg", "lissa", "ekfac"),
            "curvature": ("gauss-newton", "hessian"),
            "convention": ("A", "B"),
            "layers": ("all", "last"),
        }
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if not (self.damping >= 0 and math.isfinite(self.damping)):
            raise ValueError(f"damping must be non-negative and finite, got {self.damping}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie in (0, 1), got {self.tolerance}")
        if self.scale is not None and not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        for name, least in (("max_steps", 1), ("batch", 1), ("samples", 0)):
            if (number := getattr(self, name)) is not None and number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        if self.solver == "ekfac" and self.curvature == "hessian":
            raise ValueError("solver 'ekfac' approximates curvature 'gauss-newton', got 'hessian'")
        if self.renormalize and self.convention == "B":
            raise ValueError(
                "renormalize needs convention 'A', got 'B': all gradients of 'B' share the vector w theta"
            )

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); pays for the factors of H ("explicit", "ekfac") or its scale ("lissa").

        Raises:
            ValueError: "explicit" with too many parameters, or with an H that is not positive definite.
        """
        run = _Run(self, trace)
        norms = gradient_norms(run.model, trace.train, run.form) if self.renormalize else None

        def rows(test: Dataset) -> Tensor:
            solved = run.solve(run.vectors(test))
            scores = project(
                run.model, trace.train, unflatten(run.model, run.names, solved), run.form
            )
            return run.score(scores if norms is None else scores / norms, solved)

        def scorer(test: Dataset) -> Tensor:
            return run.in_blocks(rows, test) if len(test) else test.x.new_zeros(0, len(trace.train))

        return scorer

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns the diagonal of the scores on the training set, (n,), without the others: how far each predicts itself."""
        run = _Run(self, trace)

        def rows(part: Dataset) -> Tensor:
            own = run.vectors(part)
            solved = run.solve(own)
            return run.score((own * solved).sum(1, keepdim=True), solved).squeeze(1)

        return run.in_blocks(rows, trace.train)


class _Run:
    """The final model of a training run and the inverse of its curvature."""

    def __init__(self, how: InfluenceFunctions, trace: Trace) -> None:
        self.how, self.train, self.decay = how, trace.train, trace.recipe.weight_decay
        self.model = trace.model()
        self.form = Form("margin" if how.renormalize else "loss", layers=how.layers)
        self.names = parameter_names(self.model, how.layers)
        parameters = dict(self.model.named_parameters())
        self.theta = flatten({name: parameters[name].detach()[None] for name in self.names})[0]
        self.solve = self._solver()

    def vectors(self, part: Dataset) -> Tensor:
        """Returns the gradients of the instances, or their unit vectors, (k, p)."""
        rows = flatten(gradient_vectors(self.model, part, self.form.objective, self.how.layers))
        return directions(rows)[0] if self.how.renormalize else rows

    def score(self, dots: Tensor, solved: Tensor) -> Tensor:
        """Returns the scores of either convention from <g_i, H^-1 g_j>, (m, k), and H^-1 g_j, (m, p)."""
        if self.how.convention == "A":
            return dots / len(self.train)
        return (dots + self.decay * (solved @ self.theta)[:, None]) / (len(self.train) - 1)

    def in_blocks(self, rows: Callable[[Dataset], Tensor], data: Dataset) -> Tensor:
        """Returns rows(part) of all parts of `data`, as large as the memory allows."""
        block = min(room(data, VECTORS * len(self.theta))[0], len(data))
        return halving(lambda size: torch.cat([rows(part) for part in batches(data, size)]), block)

    def _product(self, vectors: Tensor, data: Dataset | None = None) -> Tensor:
        product = hessian_product if self.how.curvature == "hessian" else gauss_newton_product
        return product(
            self.model, data or self.train, vectors, self.decay + self.how.damping, self.how.layers
        )

    def _solver(self) -> Product:
        how = self.how
        if how.solver == "ekfac":
            parts = ekfac.blocks(self.model, self.train, how.samples, how.seed, how.layers)
            return lambda v: ekfac.solve(parts, v, self.decay + how.damping)
        if how.solver == "explicit":
            factor = cholesky(
                self._product, self.theta, room(self.train, VECTORS * len(self.theta))[0]
            )
            return lambda v: torch.cholesky_solve(v.T, factor).T
        if how.solver == "cg":
            return lambda v: conjugate_gradients(self._product, v, how.tolerance, how.max_steps)
        scale = how.scale or largest_eigenvalue(self._product, self.theta)
        return lambda v: richardson(
            self._product, v, scale, how.tolerance, how.max_steps, self._sampled()
        )

    def _sampled(self) -> Product | None:
        """Returns the product with H of a fresh draw of instances at every call, the same draws for every block of points."""
        if (size := self.how.batch) is None:
            return None
        g, n = generator(self.how.seed, "lissa"), len(self.train)
        return lambda v: self._product(v, self.train.take(torch.randperm(n, generator=g)[:size]))
