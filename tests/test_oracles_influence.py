"""Influence functions and the products behind them.

Against retraining, closed forms, autograd and one another.
"""

import dataclasses
import math
import statistics
import warnings

import pytest
import torch
from conftest import random_data
from scipy.stats import pearsonr
from test_oracles_gradients import zoo
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from estimators.influence_functions import InfluenceFunctions
from estimators.kit.conjugate_gradients import conjugate_gradients
from estimators.kit.final_model import FinalModel
from estimators.kit.solvers import cholesky, largest_eigenvalue, richardson
from poisonbench.data import Dataset, Layout
from poisonbench.gradients import Form, gradient_vectors
from poisonbench.gradients.curvature import (
    ekfac,
    flatten,
    gauss_newton_product,
    hessian_product,
)
from poisonbench.models import build
from poisonbench.notes import collecting
from poisonbench.objectives import margins
from poisonbench.seeding import generator
from poisonbench.training import Checkpoint, Recipe, Trace, train

DECAY = 1e-2


def trace_of(model: nn.Module, data: Dataset, name: str, decay: float = DECAY) -> Trace:
    """A training run whose final model is `model`."""
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    recipe = Recipe(name, weight_decay=decay)
    return Trace(
        train=data,
        checkpoints=(Checkpoint(1, 0.1, state),),
        seed=0,
        recipe=recipe,
    )


def problem(n: int, seed: int = 0, d: int = 4, classes: int = 3) -> Dataset:
    """Labels that depend on the instance through a noisy linear rule."""
    g = generator(seed, "problem")
    x = torch.randn((n, d), generator=g, dtype=torch.float64)
    w = torch.randn((d, classes), generator=generator(0, "rule"), dtype=torch.float64)
    return Dataset(
        x,
        (x @ w + torch.randn((n, classes), generator=g, dtype=torch.float64)).argmax(1),
        classes,
    )


def refit(data: Dataset, weights: Tensor, decay: float = DECAY) -> Tensor:
    """Minimises sum_i weights_i L_i + (decay/2) |theta|^2 by Newton's method.

    Returns theta (C, d + 1) with the bias last.
    """
    x = torch.cat([data.x, torch.ones_like(data.x[:, :1])], 1)
    theta = torch.zeros(data.classes * x.shape[1], dtype=torch.float64)

    def objective(t: Tensor) -> Tensor:
        losses = F.cross_entropy(
            x @ t.view(data.classes, -1).T, data.y, reduction="none"
        )
        return weights @ losses + decay / 2 * t @ t

    for _ in range(50):
        g = torch.func.grad(objective)(theta)
        if g.norm() < 1e-13:
            break
        theta = theta - torch.linalg.solve(
            torch.func.jacrev(torch.func.jacrev(objective))(theta), g
        )
    assert g.norm() < 1e-12
    return theta.view(data.classes, -1)


def losses(theta: Tensor, data: Dataset) -> Tensor:
    return F.cross_entropy(
        data.x @ theta[:, :-1].T + theta[:, -1], data.y, reduction="none"
    )


def logistic(data: Dataset, decay: float = DECAY) -> Trace:
    """The regularised logistic regression at its optimum."""
    model = build("linear", data.layout, 0).double()
    theta = refit(
        data, torch.full((len(data),), 1 / len(data), dtype=torch.float64), decay
    )
    with torch.no_grad():
        model.head.weight.copy_(theta[:, :-1])
        model.head.bias.copy_(theta[:, -1])
    return trace_of(model, data, "linear", decay)


EXACT = InfluenceFunctions("explicit", "hessian", damping=0.0)


@pytest.mark.parametrize(
    "curvature", ["hessian", "gauss-newton"]
)  # equal for logits linear in the parameters
def test_scores_are_the_derivative_of_the_test_loss_by_the_weight_of_an_instance(
    curvature: str,
):
    data, test, eps = problem(40), problem(5, seed=1), 1e-5
    got = dataclasses.replace(EXACT, curvature=curvature).fit(logistic(data))(test)
    for i in (0, 7, 31):
        up, down = (
            torch.full((40,), 1 / 40, dtype=torch.float64).index_fill(
                0, torch.tensor([i]), 1 / 40 + sign * eps
            )
            for sign in (1, -1)
        )
        derivative = (
            losses(refit(data, up), test) - losses(refit(data, down), test)
        ) / (2 * eps)
        torch.testing.assert_close(got[:, i], -derivative / 40, rtol=1e-5, atol=1e-9)


def leave_one_out(
    data: Dataset, test: Dataset, rows: range, convention: str, decay: float = DECAY
) -> Tensor:
    """L(without i) - L(with i), (m, len(rows))."""
    n, out = len(data), []
    base = losses(
        refit(data, torch.full((n,), 1 / n, dtype=torch.float64), decay), test
    )
    for i in rows:
        weights = torch.full(
            (n,), 1 / (n if convention == "A" else n - 1), dtype=torch.float64
        )
        weights[i] = 0
        out.append(losses(refit(data, weights, decay), test) - base)
    return torch.stack(out, 1)


@pytest.mark.parametrize("convention", ["A", "B"])
def test_scores_correlate_with_leaving_out_of_either_convention_and_not_with_the_other(
    convention: str,
):
    data, test = problem(200), problem(5, seed=1)
    actual = leave_one_out(data, test, range(0, 200, 4), convention, 0.1)
    got = {
        c: dataclasses.replace(EXACT, convention=c).fit(logistic(data, 0.1))(test)[
            :, ::4
        ]
        for c in ("A", "B")
    }
    assert all(
        pearsonr(got[convention][j], actual[j]).statistic > 0.99 for j in range(5)
    )
    error = {
        c: float((scores - actual).norm() / actual.norm()) for c, scores in got.items()
    }
    assert error[convention] < 0.1
    assert error[convention] < error["B" if convention == "A" else "A"] / 2


@pytest.mark.parametrize("convention", ["A", "B"])
def test_relative_error_to_leaving_out_shrinks_as_one_over_n(convention: str):
    errors = []
    for n in (50, 100, 200, 400):
        data, test = problem(n), problem(20, seed=1)
        got = dataclasses.replace(EXACT, convention=convention).fit(logistic(data))(
            test
        )[:, :20]
        actual = leave_one_out(data, test, range(20), convention)
        errors.append(float((got - actual).norm() / actual.norm()))
    slope = (
        torch.tensor(errors).log()[-1] - torch.tensor(errors).log()[0]
    ) / torch.log(torch.tensor(8.0))
    assert -1.6 < float(slope) < -0.7, errors


def test_scores_of_convention_b_sum_to_zero_at_the_optimum():
    data, test = problem(60), problem(7, seed=1)
    for damping in (0.0, 0.3):
        scores = dataclasses.replace(EXACT, convention="B", damping=damping).fit(
            logistic(data)
        )(test)
        assert float(scores.sum(1).abs().max()) < 1e-11
        assert float(scores.abs().max()) > 1e-4


# ---- solvers ----

TIGHT = {"damping": 0.05, "tolerance": 1e-10, "max_steps": 20_000}


@pytest.mark.parametrize("convention", ["A", "B"])
@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("solver", ["cg", "lissa"])
def test_iterative_solvers_equal_the_explicit_one(
    solver: str, curvature: str, convention: str
):
    data, test = problem(80), problem(6, seed=1)
    trace = logistic(data)
    want = InfluenceFunctions("explicit", curvature, 0.05, convention).fit(trace)(test)
    got = InfluenceFunctions(solver, curvature, convention=convention, **TIGHT).fit(
        trace
    )(test)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("damping", [0.3, 1.0])
def test_damping_of_lissa_is_that_of_the_curvature_at_any_scale(damping: float):
    data, test = problem(30), problem(3, seed=1)
    trace = logistic(data)
    want = InfluenceFunctions("explicit", damping=damping).fit(trace)(test)
    for scale in (2.0, 8.0):
        lissa = InfluenceFunctions(
            "lissa", damping=damping, scale=scale, tolerance=1e-10, max_steps=5_000
        )
        torch.testing.assert_close(lissa.fit(trace)(test), want, rtol=1e-6, atol=1e-12)


def test_lissa_on_drawn_instances_comes_near_and_repeats_itself():
    data, test = problem(80), problem(6, seed=1)
    trace = logistic(data)
    want = InfluenceFunctions("explicit", damping=0.1).fit(trace)(test)
    scorer = InfluenceFunctions(
        "lissa", damping=0.1, batch=20, scale=8.0, tolerance=0.3, max_steps=150
    ).fit(trace)
    assert float((scorer(test) - want).norm() / want.norm()) < 0.2
    assert torch.equal(scorer(test), scorer(test))


def test_solving_many_points_at_once_is_one_solve_a_point():
    g = torch.Generator().manual_seed(0)
    root, b = (torch.randn((k, 30), generator=g, dtype=torch.float64) for k in (30, 4))
    b *= torch.tensor([1.0, 1e-200, 0.0, 1e3], dtype=torch.float64)[:, None]
    h = root.T @ root / 30 + 0.1 * torch.eye(30, dtype=torch.float64)
    got = conjugate_gradients(lambda v: v @ h, b, 1e-12, 500)
    alone = torch.cat(
        [conjugate_gradients(lambda v: v @ h, row[None], 1e-12, 500) for row in b]
    )
    torch.testing.assert_close(got, alone, rtol=1e-9, atol=0)
    for k, size in ((0, 1.0), (1, 1e-200), (3, 1e3)):
        torch.testing.assert_close(
            got[k] / size, torch.linalg.solve(h, b[k] / size), rtol=1e-8, atol=1e-10
        )
    assert not got[2].any()


def test_the_largest_eigenvalue_is_come_near_to_from_below():
    h = torch.diag(torch.tensor([5.0, 2.0, 1.0, 0.5], dtype=torch.float64))
    found = largest_eigenvalue(lambda v: v @ h, torch.zeros(4, dtype=torch.float64))
    assert 4.999 < found <= 5.0 + 1e-9
    few = largest_eigenvalue(
        lambda v: v @ h, torch.zeros(4, dtype=torch.float64), steps=1
    )
    assert few < 4.5


def test_cholesky_factors_are_those_of_the_matrix_in_any_blocks():
    g = torch.Generator().manual_seed(0)
    root = torch.randn((7, 7), generator=g, dtype=torch.float64)
    h = root.T @ root + torch.eye(7, dtype=torch.float64)
    tilted = h.clone()
    tilted[0, 1] += 0.2  # products are rounded: what counts is the symmetric part
    tilted[1, 0] -= 0.2
    for block in (1, 3, 7):
        factor = cholesky(lambda v: v @ tilted, h[0], block)
        torch.testing.assert_close(factor, torch.linalg.cholesky(h))


@pytest.mark.parametrize("tolerance", [0.1, 1e-4])
def test_a_recursion_takes_the_steps_of_its_definition_up_to_its_tolerance(
    tolerance: float,
):
    h = torch.diag(torch.linspace(0.2, 1.0, 6, dtype=torch.float64))
    b = torch.ones(1, 6, dtype=torch.float64)
    x = b / 2
    residual = 1.0
    while residual > tolerance:
        change = b - x @ h
        residual = float(change.norm() / b.norm())
        x = x + change / 2
    got = richardson(lambda v: v @ h, b, 2.0, tolerance, 500)
    torch.testing.assert_close(got, x, rtol=1e-12, atol=0)


def test_points_that_are_solved_together_take_fewer_steps():
    g = torch.Generator().manual_seed(0)
    root, b = (torch.randn((k, 60), generator=g, dtype=torch.float64) for k in (60, 24))
    h = root.T @ root / 60 + 0.01 * torch.eye(60, dtype=torch.float64)
    steps = []

    def product(v: Tensor) -> Tensor:
        steps.append(len(v))
        return v @ h

    counts = []
    for rows in (
        b[:1],
        b,
        torch.cat([b, b, b[:16]]),
    ):  # the last are dependent, and more than p
        steps.clear()
        got = conjugate_gradients(product, rows, 1e-9, 500)
        torch.testing.assert_close(
            got, torch.linalg.solve(h, rows.T).T, rtol=1e-6, atol=1e-6
        )
        counts.append(len(steps))
    assert counts[1] <= 5 < 20 < counts[0]
    assert counts[2] <= 5
    assert max(steps) <= 60, "no more directions than parameters"


def test_only_points_whose_own_space_meets_negative_curvature_are_lost():
    h = torch.diag(torch.tensor([-1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    b = torch.tensor(
        [[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]],
        dtype=torch.float64,
    )
    with pytest.warns(
        RuntimeWarning, match="cg met non-positive curvature at 1 of 3 points"
    ):
        got = conjugate_gradients(lambda v: v @ h, b, 1e-9, 50)
    torch.testing.assert_close(got[[0, 2]], (b / h.diagonal())[[0, 2]])
    assert bool(got[1].isnan().all())


def test_too_few_steps_are_said_with_the_worst_residual():
    trace, test = logistic(problem(30)), problem(3, seed=1)
    for solver in ("cg", "lissa"):
        with pytest.warns(
            RuntimeWarning,
            match=rf"after 2 steps {solver} left 3 of 3 points .* worst at .*raise max_steps",
        ):
            scores = InfluenceFunctions(solver, max_steps=2, tolerance=1e-8).fit(trace)(
                test
            )
        assert bool(scores.isfinite().all())


def test_a_diverging_recursion_gives_nan_and_a_warning():
    with pytest.warns(RuntimeWarning, match="lissa diverged at 3 of 3 points"):
        scores = InfluenceFunctions("lissa", scale=0.01).fit(logistic(problem(30)))(
            problem(3, seed=1)
        )
    assert bool(scores.isnan().all())


def test_negative_curvature_is_said_and_never_used():
    data, test = random_data(20, (6,), 4), random_data(3, (6,), 4, seed=1)
    trace = trace_of(
        build("mlp", Layout((6,), 4, "vector"), 0).double(), data, "mlp", decay=0.0
    )
    with pytest.warns(
        RuntimeWarning, match="cg met non-positive curvature at 3 of 3 points"
    ):
        scores = InfluenceFunctions("cg", "hessian", damping=0.0).fit(trace)(test)
    assert bool(scores.isnan().all())
    with pytest.raises(ValueError, match="not positive definite: raise damping"):
        InfluenceFunctions("explicit", "hessian", damping=0.0, layers="all").fit(trace)


def test_an_explicit_matrix_of_too_many_parameters_is_refused():
    data = random_data(2)
    with pytest.raises(ValueError, match="at most 16384 parameters, got"):
        InfluenceFunctions("explicit").fit(
            trace_of(
                build("resnet9", Layout((2, 8, 8), 10, "image"), 0).double(),
                data,
                "resnet9",
            )
        )


# ---- products ----


def dense_curvature(model: nn.Module, data: Dataset, kind: str) -> Tensor:
    """The matrix (p, p) by torch.autograd.functional on the flat parameters."""
    names = dict(model.named_parameters())
    sizes, flat = (
        [p.numel() for p in names.values()],
        torch.cat([p.detach().flatten() for p in names.values()]),
    )

    def logits(t: Tensor) -> Tensor:
        parts = {
            k: v.view(p.shape)
            for (k, p), v in zip(names.items(), t.split(sizes), strict=True)
        }
        return functional_call(model, parts, (data.x,))

    if kind == "hessian":
        return torch.autograd.functional.hessian(
            lambda t: F.cross_entropy(logits(t), data.y), flat
        )
    jacobian = torch.autograd.functional.jacobian(logits, flat)  # (n, C, p)
    s = logits(flat).softmax(1)
    middle = s.diag_embed() - s[:, :, None] * s[:, None]
    return torch.einsum("ncp,ncd,ndq->pq", jacobian, middle, jacobian) / len(data)


class Narrow(nn.Module):
    """A convolution of every kind of layout, small enough for a matrix.

    Few and many output pixels, a norm, a raw parameter.
    """

    def __init__(self, side: int):
        super().__init__()
        self.features = nn.Sequential(
            *(
                nn.Conv2d(1, 2, 3, padding=1),
                nn.Tanh(),
                nn.GroupNorm(1, 2),
                nn.Conv2d(2, 3, 3, stride=2, bias=False),
            ),
            *(
                nn.ReLU(inplace=True),
                nn.Conv2d(3, 3, 3, groups=3),
                nn.AdaptiveAvgPool2d(2),
                nn.Conv2d(3, 4, 2),
            ),
            *(nn.Tanh(), nn.Flatten()),
        )
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.tensor([1.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x) * self.scale)


def small(name: str) -> tuple[nn.Module, Dataset]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name.startswith("narrow"):
            side = int(name[6:])
            return Narrow(side).double().eval(), random_data(9, (1, side, side), 3)
    return build(name, Layout((5,), 3, "vector"), 0).double(), random_data(
        70, (5,), 3
    )  # more than a batch


@pytest.mark.parametrize("name", ["linear", "narrow9", "narrow24"])
@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_products_equal_the_matrices_of_autograd(name: str, kind: str):
    model, data = small(name)
    want = dense_curvature(model, data, kind)
    v = torch.randn(
        (7, len(want)), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    product = hessian_product if kind == "hessian" else gauss_newton_product
    for some in (
        v,
        v[:1],
    ):  # the number of vectors decides the form of a layer's gradients
        torch.testing.assert_close(
            product(model, data, some, 0.3),
            some @ want + 0.3 * some,
            rtol=1e-8,
            atol=1e-10,
        )


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn7", "resnet9", "zoo"])
def test_products_of_large_models_equal_double_backward(name: str, kind: str):
    model = (
        zoo()
        if name == "zoo"
        else build(name, Layout((2, 8, 8), 10, "image"), 0).double()
    )
    data = random_data(3, (3, 9, 13), 7) if name == "zoo" else random_data(3)
    names = dict(model.named_parameters())
    g = torch.Generator().manual_seed(1)
    v = {
        k: torch.randn((2, *p.shape), generator=g, dtype=torch.float64)
        for k, p in names.items()
    }
    product = hessian_product if kind == "hessian" else gauss_newton_product
    got = product(model, data, flatten(v))
    for j in range(2):
        logits = model(data.x)
        if kind == "hessian":
            first = torch.autograd.grad(
                F.cross_entropy(logits, data.y), names.values(), create_graph=True
            )
            inner = sum((a * v[k][j]).sum() for a, k in zip(first, names, strict=True))
            want = torch.autograd.grad(inner, names.values(), materialize_grads=True)
        else:
            u = torch.zeros_like(logits, requires_grad=True)
            back = torch.autograd.grad(logits, names.values(), u, create_graph=True)
            (jv,) = torch.autograd.grad(
                back, u, [v[k][j] for k in names], retain_graph=True
            )
            s = logits.detach().softmax(1)
            want = torch.autograd.grad(
                logits,
                names.values(),
                s * (jv - (s * jv).sum(1, keepdim=True)) / len(data),
            )
        torch.testing.assert_close(
            got[j], torch.cat([w.flatten() for w in want]), rtol=1e-8, atol=1e-10
        )


def test_gauss_newton_matrix_is_symmetric_and_positive_semi_definite_where_the_hessian_is_not():
    model, data = small("narrow9")
    eye = torch.eye(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    matrix = gauss_newton_product(model, data, eye)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-10, atol=1e-14)
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-12
    assert float(torch.linalg.eigvalsh(hessian_product(model, data, eye)).min()) < -1e-4


def test_head_alone_is_the_corner_of_the_whole_matrix():
    model, data = small("narrow9")
    for kind, product in (
        ("hessian", hessian_product),
        ("gauss-newton", gauss_newton_product),
    ):
        names = [k for k, p in model.named_parameters() for _ in range(p.numel())]
        rows = torch.tensor([k.startswith("head") for k in names])
        corner = dense_curvature(model, data, kind)[rows][:, rows]
        eye = torch.eye(len(corner), dtype=torch.float64)
        torch.testing.assert_close(
            product(model, data, eye, layers="last"), corner, rtol=1e-8, atol=1e-12
        )


@pytest.fixture(scope="module")
def trained() -> tuple[Trace, Dataset]:
    data = random_data(120, (1, 8, 8), 4, seed=3)
    data.y.copy_((data.x.flatten(1)[:, :2] > 0.5).long() @ torch.tensor([1, 2]))
    return train(data, Recipe("cnn", epochs=5, batch_size=20, lr=0.05), 0), random_data(
        8, (1, 8, 8), 4, seed=4
    )


# ---- the estimator ----


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("solver", ["explicit", "cg", "ekfac"])
def test_self_influence_is_the_diagonal_and_not_negative(
    solver: str, renormalize: bool
):
    model, data = small("mlp")
    data = data.take(torch.arange(12))
    estimator = InfluenceFunctions(
        solver, damping=0.05, renormalize=renormalize, layers="last", tolerance=1e-9
    )
    trace = trace_of(model, data, "mlp")
    own = estimator.self_influence(trace)
    torch.testing.assert_close(
        own, estimator.fit(trace)(data).diag(), rtol=1e-8, atol=0
    )
    assert float(own.min()) > 0


def test_self_influence_of_convention_b_is_the_diagonal():
    trace = logistic(problem(30))
    b = dataclasses.replace(EXACT, convention="B")
    torch.testing.assert_close(
        b.self_influence(trace), b.fit(trace)(trace.train).diag(), rtol=1e-7, atol=1e-12
    )


def test_renormalised_scores_are_those_of_unit_gradients(
    trained: tuple[Trace, Dataset],
):
    trace, test = trained
    model = trace.model()
    estimator = InfluenceFunctions("ekfac", renormalize=True)
    unit = [
        F.normalize(flatten(gradient_vectors(model, part, "loss")), dim=1)
        for part in (test, trace.train)
    ]
    solved = ekfac.solve(
        ekfac.blocks(model, trace.train), unit[0], 0.0, estimator.relative_damping
    )
    torch.testing.assert_close(
        estimator.fit(trace)(test),
        solved @ unit[1].T / len(trace.train),
        rtol=1e-6,
        atol=1e-9,
    )


def test_huge_damping_leaves_the_dot_product(trained: tuple[Trace, Dataset]):
    trace, test = trained
    rows = [
        flatten(gradient_vectors(trace.model(), part, "loss"))
        for part in (test, trace.train)
    ]
    got = (
        InfluenceFunctions("cg", damping=1e8, tolerance=1e-9).fit(trace)(test)
        * 1e8
        * len(trace.train)
    )
    torch.testing.assert_close(got, rows[0] @ rows[1].T, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["cg", "ekfac", "lissa"])
@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
def test_every_solver_works_in_float32(name: str, solver: str):
    data, test = (
        random_data(k, (1, 8, 8), 3, seed=k, dtype=torch.float32) for k in (6, 2)
    )
    trace = trace_of(build(name, Layout((1, 8, 8), 3, "image"), 0), data, name)
    wide = dataclasses.replace(
        trace_of(
            build(name, Layout((1, 8, 8), 3, "image"), 0).double(),
            data.to(dtype=torch.float64),
            name,
        )
    )
    estimator = InfluenceFunctions(solver, damping=1.0, samples=0, tolerance=1e-4)
    got = estimator.fit(trace)(test)
    assert got.dtype == torch.float32
    torch.testing.assert_close(
        got.double(),
        estimator.fit(wide)(test.to(dtype=torch.float64)),
        rtol=5e-3,
        atol=1e-5,
    )


def test_the_largest_model_works_in_float32():
    data, test = (
        random_data(k, (1, 8, 8), 3, seed=k, dtype=torch.float32) for k in (3, 2)
    )
    trace = trace_of(
        build("resnet9", Layout((1, 8, 8), 3, "image"), 0), data, "resnet9"
    )
    scores = InfluenceFunctions(damping=1.0, tolerance=1e-2).fit(trace)(test)
    assert scores.shape == (2, 3)
    assert bool(scores.isfinite().all())


def test_confident_points_of_vanishing_loss_keep_their_scores_in_float32():
    data, test = random_data(20, (6,), 3), random_data(4, (6,), 3, seed=1)
    model = build("linear", Layout((6,), 3, "vector"), 0).double()
    with torch.no_grad():
        model.head.weight *= 300
    for part in (data, test):
        part.y.copy_(model(part.x).argmax(1))
    assert float(margins(model(test.x), test.y).min().detach()) > 5
    wide = InfluenceFunctions(renormalize=True, tolerance=1e-6).fit(
        trace_of(model, data, "linear")
    )(test)
    narrow = trace_of(model.float(), data.to(dtype=torch.float32), "linear")
    got = InfluenceFunctions(renormalize=True, tolerance=1e-5).fit(narrow)(
        test.to(dtype=torch.float32)
    )
    torch.testing.assert_close(got.double(), wide, rtol=1e-3, atol=1e-5)


def test_blocks_of_test_points_and_no_test_points(monkeypatch: pytest.MonkeyPatch):
    trace, test = logistic(problem(30)), problem(5, seed=1)
    scorer = InfluenceFunctions(tolerance=1e-10).fit(
        trace
    )  # within it points depend on each other
    whole = scorer(test)
    assert scorer(test.take(torch.tensor([], dtype=torch.int64))).shape == (0, 30)
    monkeypatch.setattr("estimators.kit.final_model.room", lambda data, size: (2, 2))
    torch.testing.assert_close(scorer(test), whole, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("solver", ["cg", "explicit", "lissa"])
def test_the_damping_of_solvers_of_the_whole_matrix_is_a_part_of_the_trace(
    solver: str,
):
    trace, test = logistic(problem(30)), problem(3, seed=1)
    with collecting() as told:
        got = InfluenceFunctions(solver).fit(trace)(test)
    damping = told.figures["damping"]
    torch.testing.assert_close(
        got, InfluenceFunctions(solver, damping=damping).fit(trace)(test)
    )
    with collecting() as told:
        InfluenceFunctions(solver, damping=0.2).fit(trace)(test)
    assert "damping" not in told.figures


def test_the_trace_is_estimated_without_bias_and_within_its_deviation():
    trace = logistic(problem(30))
    final = FinalModel.of(trace, Form(), False)
    bare = dataclasses.replace(final.curvature("gauss-newton", 0.0), shift=0.0)
    exact = bare.product(torch.eye(len(final.theta), dtype=torch.float64))
    # the variance of z^T G z is twice the squares off the diagonal
    off = exact - exact.diagonal().diag()
    deviation = math.sqrt(2 * float(off.square().sum()))
    found = [1000 * final.damping(seed) for seed in range(60)]
    spread = statistics.stdev(found)
    assert 0.7 < spread / (deviation / math.sqrt(8)) < 1.4
    wrong = statistics.fmean(found) - float(exact.trace())
    assert abs(wrong) < 4 * spread / math.sqrt(60)
    assert final.damping(3) == final.damping(3)


def linear(data: Dataset, weight: Tensor) -> Trace:
    """The run of a linear model without a bias and without weight decay."""
    model = nn.Linear(*reversed(weight.shape), bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_(weight)
    return Trace.of(model, data, lr=0.1)


def test_the_unit_of_the_inputs_does_not_matter_as_damping_follows_it():
    """Inputs ten times as large, weights a tenth: the same model, gradients ten times as long."""
    data, test = problem(30), problem(4, seed=1)
    weight = torch.randn((3, 4), generator=generator(0, "w"), dtype=torch.float64)
    found = []
    for unit in (1.0, 10.0):
        trace = linear(data.rows(data.x * unit, data.y), weight / unit)
        scorer = InfluenceFunctions(tolerance=1e-12, max_steps=2000).fit(trace)
        found.append(scorer(test.rows(test.x * unit, test.y)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-12)


def test_where_nothing_curves_every_damping_will_do():
    data = problem(6)
    trace = linear(data.rows(0 * data.x, data.y), torch.ones(3, 4).double())
    assert FinalModel.of(trace, Form(), False).damping(0) == 1.0
    assert not bool(InfluenceFunctions().fit(trace)(data).any())


def test_the_default_needs_no_warning_on_a_trained_model(
    trained: tuple[Trace, Dataset],
):
    trace, test = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bool(InfluenceFunctions().fit(trace)(test).isfinite().all())


BAD = [
    ({"solver": "newton"}, "solver must be one of"),
    ({"damping": -1.0}, "damping must be non-negative"),
    ({"relative_damping": -1.0}, "relative_damping must be non-negative"),
    ({"samples": -1}, "samples must be at least 0"),
    ({"tolerance": 0.0}, "tolerance must lie in"),
    ({"max_steps": 0}, "max_steps must be at least 1"),
    ({"scale": 0.0}, "scale must be positive"),
    ({"solver": "ekfac", "curvature": "hessian"}, "approximates"),
    ({"renormalize": True, "convention": "B"}, "renormalize needs convention 'A'"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=lambda v: str(v))
def test_settings_without_meaning_are_refused(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        InfluenceFunctions(**fields)
