"""Influence functions (Koh & Liang, ICML 2017, arXiv 1703.04730): the effect of leaving an instance
out, to first order.

Cost, for n training and m test instances, p parameters and C classes: "cg" and "lissa"
O((n C + m) m p) per step, O(m p) memory; "explicit" O(n C p^2 + p^3) once and O(m p^2), O(p^2)
memory; "ekfac" 2 C passes once (2 per drawn label) and O(m p (inputs + outputs)). The default
damping of the others: eight products with H, once.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from estimators.kit.conjugate_gradients import Product, conjugate_gradients
from estimators.kit.curvature import Curvature
from estimators.kit.final_model import FinalModel
from estimators.kit.solvers import cholesky, largest_eigenvalue, richardson
from poisonbench.checks import (
    check_at_least,
    check_choice,
    check_fraction,
    check_not_negative,
    check_positive,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Form, Layers, gradient_norms
from poisonbench.gradients.curvature import Kind, ekfac
from poisonbench.losses import direction
from poisonbench.training.trace import Trace, check_points, check_trace

Solver = Literal["explicit", "cg", "lissa", "ekfac"]
Convention = Literal["A", "B"]


@dataclass(frozen=True)
class InfluenceFunctions:
    """score_ji = (1/n) g_i^T H^-1 g_j at the final model, H = curvature of the mean loss +
    (weight decay + damping) I (eq. 2).

    That is L_j(without i) - L_j(with i) to first order, so positive = helped. Gradients are of the
    data loss, weight decay w is the recipe's, of the regulariser (w/2)|theta|^2.

    Attributes:
        solver: "cg": block conjugate gradients, all test points in one search space, so that within
            `tolerance` a point's scores depend on the points beside it; "explicit": Cholesky
            factors of H, up to 16,384 parameters; "lissa": the recursion x <- x + (g - H x) / scale
            (section 3, Agarwal et al. 2017, arXiv 1602.03943), with damping inside H; "ekfac": see
            `poisonbench.gradients.curvature.ekfac`.
        curvature: "gauss-newton", positive semi-definite, or "hessian", which is not away from a
            minimum: test points for which "cg" meets curvature <= 0 get NaN and a warning.
        damping: absolute, added with the weight decay to the eigenvalues of H. None: a thousandth
            of the trace of the Gauss-Newton matrix; for "ekfac" `relative_damping` for both.
        relative_damping: of "ekfac" without `damping`: times the mean eigenvalue of a block (a
            layer), added to its eigenvalues. Chosen on digits; on other data set 1, for .02 to .07
            more of the linear datamodeling score, or 30 where p is far above n (results/truth.md).
        convention: "A": the instance's term is dropped from (1/n) sum_i L_i + (w/2)|theta|^2; "B":
            the mean is then over n - 1, so that score_ji = (g_i + w theta)^T H^-1 g_j / (n - 1),
            whose sum over i is 0 at the optimum.
        renormalize: unit vectors g/|g| in place of g_i and g_j, of cross entropy from margin
            gradients, which point exactly the other way on both sides (Hammoudeh & Lowd 2022, arXiv
            2201.10055). H stays.
        layers: "all" parameters, or "last" for the head's, with H restricted to them.
        tolerance: relative residual |g - H x| / |g| at which "cg" and "lissa" stop. The default is
            chosen by the linear datamodeling score, which does not gain from less.
        max_steps: of "cg" and "lissa"; a warning names the worst residual when it was not enough.
        scale: of "lissa", above half the largest eigenvalue of H; None: that eigenvalue, by power
            iteration.
        batch: instances drawn for a step of "lissa"; None: all, without which the residual does not
            fall below the noise.
        samples: labels drawn per instance by "ekfac", for the bases and again for the eigenvalues;
            0: the expectation over all labels, better and a pass per class.
        seed: of "lissa", "ekfac" and the estimate of the trace.

    Raises:
        ValueError: a value out of its range, or a combination without meaning.
    """

    solver: Solver = "cg"
    curvature: Kind = "gauss-newton"
    damping: float | None = None
    convention: Convention = "A"
    renormalize: bool = False
    layers: Layers = "all"
    tolerance: float = 0.1
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
            raise ValueError(
                "solver 'ekfac' approximates curvature 'gauss-newton', got 'hessian'"
            )
        if self.renormalize and self.convention == "B":
            reason = "all gradients of 'B' share the vector w theta"
            raise ValueError(f"renormalize needs convention 'A', got 'B': {reason}")

    @property
    def needs(self) -> tuple[str, ...]:
        """What it asks of a run."""
        if self.layers == "last":
            return ("final model", "head")
        return ("final model",)

    def fit(self, trace: Trace) -> Scorer:
        """Returns the scorer (m rows) -> (m, n); pays for factors of H or the scale of "lissa".

        Raises:
            ConfigError: the run has no head, for layers="last".
            ValueError: "explicit" with too many parameters, or with an H that is not positive
                definite.
        """
        final = self._final(trace)
        solve = self._solver(final)
        norms = None
        if self.renormalize:
            norms = gradient_norms(final.model, final.train, final.form)

        def rows(test: Dataset) -> Tensor:
            solved = solve(final.vectors(test))
            dots = final.products(solved)
            if norms is not None:
                dots = dots / norms
            return self._of_convention(final, dots, solved)

        def scorer(test: Dataset) -> Tensor:
            check_points(trace, test)
            if not len(test):
                return test.zeros(0, len(final.train))
            return final.in_blocks(rows, test)

        return scorer

    def self_influence(self, trace: Trace) -> Tensor:
        """Returns the diagonal of the scores on the training set, (n,), without the others."""
        final = self._final(trace)
        solve = self._solver(final)

        def rows(part: Dataset) -> Tensor:
            own = final.vectors(part)
            solved = solve(own)
            dots = (own * solved).sum(1, keepdim=True)
            return self._of_convention(final, dots, solved).squeeze(1)

        return final.in_blocks(rows, final.train)

    def _final(self, trace: Trace) -> FinalModel:
        check_trace(trace, self)
        objective = direction(trace.loss) if self.renormalize else "loss"
        form = Form(objective, layers=self.layers, loss=trace.loss)
        return FinalModel.of(trace, form, self.renormalize)

    def _of_convention(self, final: FinalModel, dots: Tensor, solved: Tensor) -> Tensor:
        """Returns the scores from <g_i, H^-1 g_j>, (m, k), and H^-1 g_j, (m, p)."""
        n = len(final.train)
        if self.convention == "A":
            return dots / n
        along_theta = final.decay * (solved @ final.theta)
        return (dots + along_theta[:, None]) / (n - 1)

    def _solver(self, final: FinalModel) -> Product:
        """Returns what multiplies rows (m, p) by H^-1."""
        if self.solver == "ekfac":
            return self._ekfac(final)
        damping = final.damping(self.seed) if self.damping is None else self.damping
        h = final.curvature(self.curvature, damping)
        if self.solver == "explicit":
            factor = cholesky(h.product, final.theta, final.block())
            return lambda v: torch.cholesky_solve(v.T, factor).T
        if self.solver == "cg":
            return lambda v: conjugate_gradients(
                h.product, v, self.tolerance, self.max_steps
            )
        return self._lissa(final, h)

    def _ekfac(self, final: FinalModel) -> Product:
        parts = ekfac.blocks(
            final.model,
            final.train,
            self.samples,
            self.seed,
            self.layers,
            final.form.loss,
        )
        if self.damping is None:
            return lambda v: ekfac.solve(parts, v, 0.0, self.relative_damping)
        shift = final.decay + self.damping
        return lambda v: ekfac.solve(parts, v, shift)

    def _lissa(self, final: FinalModel, h: Curvature) -> Product:
        scale = self.scale or largest_eigenvalue(h.product, final.theta)

        def solve(vectors: Tensor) -> Tensor:
            sampled = None  # the same draws for every block of points
            if self.batch is not None:
                sampled = h.sampled(self.batch, self.seed)
            return richardson(
                h.product, vectors, scale, self.tolerance, self.max_steps, sampled
            )

        return solve
