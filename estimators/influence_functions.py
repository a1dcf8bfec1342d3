"""Influence functions (Koh & Liang, ICML 2017, arXiv 1703.04730): the effect of leaving an instance
out, to first order.

Needs: the final model.

Cost, for n training and m test instances, p parameters and C classes: "cg" and "lissa"
O((n C + m) m p) per step, O(m p) memory; "explicit" O(n C p^2 + p^3) once and O(m p^2), O(p^2) memory;
"ekfac" 2 C passes once (2 per drawn label) and O(m p (inputs + outputs)).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from estimators.kit.curvature import Curvature
from estimators.kit.solvers import (
    Product,
    cholesky,
    conjugate_gradients,
    directions,
    largest_eigenvalue,
    richardson,
)
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Layers, ekfac, gradient_vectors, parameter_names
from poisonbench.gradients.curvature import Kind
from poisonbench.gradients.layout import flatten, unflatten
from poisonbench.gradients.products import Form, gradient_norms, project
from poisonbench.memory import batches, halving, room
from poisonbench.training.trace import Trace, check_points, check_trace

Solver = Literal["explicit", "cg", "lissa", "ekfac"]
Convention = Literal["A", "B"]
VECTORS = 8  # copies of the m vectors that a solver holds at once
DAMPING = 1e-2  # of the solvers of the whole matrix


@dataclass(frozen=True)
class InfluenceFunctions:
    """score_ji = (1/n) g_i^T H^-1 g_j at the final model, H = curvature of the mean loss +
    (weight decay + damping) I (eq. 2).

    That is L_j(without i) - L_j(with i) to first order, so positive = helped. Gradients are of the
    data loss, weight decay w is the recipe's, of the regulariser (w/2)|theta|^2.

    Attributes:
        solver: "cg": block conjugate gradients, all test points in one search space, so that within
            `tolerance` a point's scores depend on the points beside it; "explicit": Cholesky factors
            of H, up to 16,384 parameters; "lissa": the recursion x <- x + (g - H x) / scale
            (section 3, Agarwal et al. 2017, arXiv 1602.03943), with damping inside H; "ekfac": see
            `poisonbench.gradients.ekfac`.
        curvature: "gauss-newton", positive semi-definite, or "hessian", which away from a minimum is
            not: test points for which "cg" meets curvature <= 0 get NaN and a warning.
        damping: absolute, added with the weight decay to the eigenvalues of H. None: 0.01, and
            for "ekfac" `relative_damping` in place of both.
        relative_damping: of "ekfac" without `damping`: times the mean eigenvalue of a block (a
            layer), added to the eigenvalues of that block.
        convention: "A": the instance's term is dropped from (1/n) sum_i L_i + (w/2)|theta|^2; "B":
            the mean is then over n - 1, so that score_ji = (g_i + w theta)^T H^-1 g_j / (n - 1),
            whose sum over i is 0 at the optimum.
        renormalize: unit vectors g/|g| in place of g_i and g_j, taken from margin gradients, which
            point exactly the other way on both sides (Hammoudeh & Lowd 2022, arXiv 2201.10055).
            H stays.
        layers: "all" parameters, or "last" for the head's, with H restricted to them.
        tolerance: relative residual |g - H x| / |g| at which "cg" and "lissa" stop.
        max_steps: of "cg" and "lissa"; a warning names the worst residual when it was not enough.
        scale: of "lissa", above half the largest eigenvalue of H; None: that eigenvalue, by power
            iteration.
        batch: instances drawn for a step of "lissa"; None: all, without which the residual does not
            fall below the noise.
        samples: labels drawn per instance by "ekfac", for the bases and again for the eigenvalues;
            0: the expectation over all labels, better and a pass per class.
        seed: of "lissa" and "ekfac".

    Raises:
        ValueError: a value out of its range, or a combination without meaning.
    """

    solver: Solver = "cg"
    curvature: Kind = "gauss-newton"
    damping: float | None = None
    convention: Convention = "A"
    renormalize: bool = False
    layers: Layers = "all"
    tolerance: float = 1e-2
    max_steps: int = 200
    scale: float | None = None
    batch: int | None = None
    samples: int = 0
    seed: int = 0
    relative_damping: float = 0.1

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, get_args(Solver))
        check_choice("curvature", self.curvature, get_args(Kind))
        check_choice("convention", self.convention, get_args(Convention))
        check_choice("layers", self.layers, get_args(Layers))
        if self.damping is not None:
            check_not_negative("damping", self.damping)
        check_not_negative("relative_damping", self.relative_damping)
        check_fraction("tolerance", self.tolerance)
        if self.scale is not None:
            check_positive("scale", self.scale)
        check_at_least("max_steps", self.max_steps, 1)
        check_at_least("batch", self.batch, 1)
        check_at_least("samples", self.samples, 0)
        if self.solver == "ekfac" and self.curvature == "hessian":
            raise ValueError("solver 'ekfac' approximates curvature 'gauss-newton', got 'hessian'")
        if self.renormalize and self.convention == "B":
            reason = "all gradients of 'B' share the vector w theta"
            raise ValueError(f"renormalize needs convention 'A', got 'B': {reason}")

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); pays for the factors of H ("explicit", "ekfac") or
        its scale ("lissa").

        Raises:
            ValueError: "explicit" with too many parameters, or with an H that is not positive
                definite.
        """
        check_trace(trace)
        run = _Run(self, trace)

        def scorer(test: Dataset) -> Tensor:
            check_points(trace, test)
            if not len(test):
                return test.x.new_zeros(0, len(trace.train))
            return run.in_blocks(run.scores, test)

        return scorer

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns the diagonal of the scores on the training set, (n,), without the others: how far
        each predicts itself.
        """
        check_trace(trace)
        run = _Run(self, trace)
        return run.in_blocks(run.own_scores, trace.train)


class _Run:
    """The final model of a training run, and the inverse of its curvature."""

    def __init__(self, how: InfluenceFunctions, trace: Trace) -> None:
        self.how = how
        self.train = trace.train
        self.decay = trace.recipe.weight_decay
        self.model = trace.model()
        self.form = Form("margin" if how.renormalize else "loss", layers=how.layers)
        self.names = parameter_names(self.model, how.layers)
        parameters = dict(self.model.named_parameters())
        theta = {name: parameters[name].detach()[None] for name in self.names}
        self.theta = flatten(theta)[0]
        self.norms: Tensor | None = None  # of the training gradients, once they are asked for
        self.solve = self._solver()

    def in_blocks(self, rows: Callable[[Dataset], Tensor], data: Dataset) -> Tensor:
        """Returns rows(part) of all parts of `data`, as large as the memory allows."""
        block = min(room(data, VECTORS * len(self.theta))[0], len(data))

        def parts(size: int) -> Tensor:
            return torch.cat([rows(part) for part in batches(data, size)])

        return halving(parts, block)

    def scores(self, test: Dataset) -> Tensor:
        """Returns the scores of all training instances, (m, n)."""
        solved = self.solve(self._vectors(test))
        named = unflatten(self.model, self.names, solved)
        dots = project(self.model, self.train, named, self.form)
        if self.how.renormalize:
            if self.norms is None:
                self.norms = gradient_norms(self.model, self.train, self.form)
            dots = dots / self.norms
        return self._of_convention(dots, solved)

    def own_scores(self, part: Dataset) -> Tensor:
        """Returns the scores of training instances for themselves, (k,)."""
        own = self._vectors(part)
        solved = self.solve(own)
        dots = (own * solved).sum(1, keepdim=True)
        return self._of_convention(dots, solved).squeeze(1)

    def _vectors(self, part: Dataset) -> Tensor:
        """Returns the gradients of the instances, or their unit vectors, (k, p)."""
        rows = gradient_vectors(self.model, part, self.form.objective, self.how.layers)
        if self.how.renormalize:
            return directions(flatten(rows))[0]
        return flatten(rows)

    def _of_convention(self, dots: Tensor, solved: Tensor) -> Tensor:
        """Returns the scores from <g_i, H^-1 g_j>, (m, k), and H^-1 g_j, (m, p)."""
        n = len(self.train)
        if self.how.convention == "A":
            return dots / n
        along_theta = self.decay * (solved @ self.theta)
        return (dots + along_theta[:, None]) / (n - 1)

    def _solver(self) -> Product:
        if self.how.solver == "ekfac":
            return self._ekfac()
        how = self.how
        damping = DAMPING if how.damping is None else how.damping
        shift = self.decay + damping
        h = Curvature(self.model, self.train, how.curvature, shift, how.layers)
        if how.solver == "explicit":
            block = room(self.train, VECTORS * len(self.theta))[0]
            factor = cholesky(h.product, self.theta, block)
            return lambda v: torch.cholesky_solve(v.T, factor).T
        if how.solver == "cg":
            return lambda v: conjugate_gradients(h.product, v, how.tolerance, how.max_steps)
        return self._lissa(h)

    def _lissa(self, h: Curvature) -> Product:
        how = self.how
        scale = how.scale or largest_eigenvalue(h.product, self.theta)

        def solve(vectors: Tensor) -> Tensor:
            sampled = None  # the same draws for every block of points
            if how.batch is not None:
                sampled = h.sampled(how.batch, how.seed)
            return richardson(h.product, vectors, scale, how.tolerance, how.max_steps, sampled)

        return solve

    def _ekfac(self) -> Product:
        how = self.how
        parts = ekfac.blocks(self.model, self.train, how.samples, how.seed, how.layers)
        if how.damping is None:
            return lambda v: ekfac.solve(parts, v, 0.0, how.relative_damping)
        shift = self.decay + how.damping
        return lambda v: ekfac.solve(parts, v, shift)
