"""Representer points against the decomposition's identity and autograd.

Also sums that must hold at the optimum, and invariances.
"""

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.func import jacrev
from torch.nn import functional as F

from estimators import representer_point
from estimators.kit import stationary_head
from estimators.kit.stationary_head import decomposition, refit
from estimators.representer_point import RepresenterPoint
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

SMALL = Recipe(model="mlp", epochs=3, batch_size=8, lr=0.05)


class Unbiased(nn.Module):
    """A head without a bias."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 7), nn.Tanh()
        )
        self.head = nn.Linear(7, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Crooked(Unbiased):
    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__(shape, classes)
        self.head = nn.Sequential(self.head, nn.Tanh())


def problem(
    n: int = 40, width: int = 6, classes: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    """A random head, features and labels."""
    g = generator(0, "problem")
    weight, inputs = (
        torch.randn(shape, generator=g, dtype=torch.float64)
        for shape in ((classes, width), (n, width))
    )
    return weight, inputs, torch.randint(classes, (n,), generator=g)


def objective(weight: Tensor, inputs: Tensor, y: Tensor, l2: float) -> Tensor:
    return F.cross_entropy(inputs @ weight.T, y) + l2 * weight.square().sum()


def run(model: str = "mlp") -> tuple[Trace, Dataset]:
    return train(
        random_data(30), Recipe(**{**SMALL.__dict__, "model": model}), 1
    ), random_data(9, seed=4)


@pytest.mark.parametrize("l2", [1e-4, 1e-2, 1.0])
def test_at_any_head_the_sum_misses_it_by_the_gradient_over_twice_the_regulariser(
    l2: float,
):
    weight, inputs, y = problem()
    got = decomposition(weight, inputs, y, l2)
    free = weight.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(free, inputs, y, l2), free)
    torch.testing.assert_close(got.gradient, gradient, rtol=1e-10, atol=1e-12)
    missed = weight - got.alpha.T @ inputs
    assert float((missed - gradient / (2 * l2)).norm() / missed.norm()) < 1e-10
    assert got.error == pytest.approx(
        float(gradient.norm() / (2 * l2) / (1 + weight.norm())), rel=1e-9
    )


def test_alpha_is_the_gradient_of_the_loss_by_the_logits():
    weight, inputs, y = problem()
    logits = (inputs @ weight.T).requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), logits)
    got = decomposition(weight, inputs, y, 0.01)
    torch.testing.assert_close(
        got.alpha, -g / (2 * 0.01 * len(y)), rtol=1e-10, atol=1e-14
    )
    torch.testing.assert_close(
        got.alpha.sum(1), torch.zeros(len(y), dtype=torch.float64), rtol=0, atol=1e-14
    )
    torch.testing.assert_close(
        got.directions.sum(1),
        torch.zeros(len(y), dtype=torch.float64),
        rtol=0,
        atol=1e-14,
    )


@pytest.mark.parametrize(
    "explicit", [0, 10_000], ids=["conjugate gradients", "Cholesky"]
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("l2", [1e-5, 1e-2])
def test_the_refitted_head_is_the_minimum_from_any_start(
    l2: float, scale: float, explicit: int, monkeypatch
):
    monkeypatch.setattr(stationary_head, "EXPLICIT", explicit)
    weight, inputs, y = problem()
    got = refit(weight * scale, inputs, y, l2)
    free = got.clone().requires_grad_()
    assert float(
        torch.autograd.grad(objective(free, inputs, y, l2), free)[0].norm()
    ) / (2 * l2) < 1e-8 * float(got.norm())
    best = torch.optim.LBFGS(
        [other := weight.clone().requires_grad_()],
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=0,
    )
    if l2 == 1e-2:
        best.step(lambda: backward(other, inputs, y, l2, best))
        torch.testing.assert_close(got, other.detach(), rtol=1e-6, atol=1e-8)


def backward(
    weight: Tensor,
    inputs: Tensor,
    y: Tensor,
    l2: float,
    optimiser: torch.optim.Optimizer,
) -> Tensor:
    optimiser.zero_grad()
    loss = objective(weight, inputs, y, l2)
    loss.backward()
    return loss


@pytest.mark.parametrize(
    "explicit", [0, 10_000], ids=["conjugate gradients", "Cholesky"]
)
def test_a_newton_step_is_the_gradient_over_the_hessian_of_autograd(
    explicit: int, monkeypatch
):
    monkeypatch.setattr(stationary_head, "EXPLICIT", explicit)
    weight, inputs, y = problem(
        n=1100
    )  # more rows than the explicit Hessian takes at once
    hessian = jacrev(jacrev(lambda w: objective(w, inputs, y, 0.01)))(weight).view(
        24, 24
    )
    gradient = decomposition(weight, inputs, y, 0.01).gradient
    got = stationary_head.newton_step(weight, inputs, gradient, 0.01)
    missed = hessian @ got.flatten() - gradient.flatten()
    assert float(missed.norm() / gradient.norm()) < (1e-12 if explicit else 1e-3)


def test_features_that_separate_the_classes_are_fitted_too():
    _, _, y = problem()
    inputs = F.one_hot(y).double()
    got = decomposition(
        refit(torch.zeros(4, 4, dtype=torch.float64), inputs, y, 1e-8), inputs, y, 1e-8
    )
    assert got.error < 1e-8


@pytest.mark.parametrize("model", ["mlp", "cnn", "test_oracles_representer:Unbiased"])
def test_the_scores_of_a_test_point_sum_to_its_logit(model: str):
    trace, test = run(model)
    method = RepresenterPoint(l2=1e-3)
    got = method.decompose(trace)
    features = predict(trace.model().features, test.x)
    biased = trace.model().head.bias is not None
    logits = features @ got.weight[:, : features.shape[1]].T + (
        got.weight[:, -1] if biased else 0
    )
    assert got.inputs.shape == (30, features.shape[1] + biased)
    assert got.error < 1e-9
    scores = method.fit(trace)(test)
    torch.testing.assert_close(
        scores.sum(1),
        logits.gather(1, test.y[:, None]).squeeze(1),
        rtol=1e-8,
        atol=1e-8,
    )


@pytest.mark.parametrize("model", ["mlp", "test_oracles_representer:Unbiased"])
@pytest.mark.parametrize("renormalize", [False, True])
def test_scores_are_the_products_one_pair_at_a_time(model: str, renormalize: bool):
    trace, test = run(model)
    method = RepresenterPoint(1e-3, renormalize)
    got, scores, net = method.decompose(trace), method.fit(trace)(test), trace.model()
    one = torch.ones(1, dtype=torch.float64)

    def lifted(x: Tensor) -> Tensor:
        f = net.features(x[None])[0].detach()
        return torch.cat([f, one]) if net.head.bias is not None else f

    for i in range(30):
        p = (got.weight @ lifted(trace.train.x[i])).softmax(0)
        alpha = (F.one_hot(trace.train.y[i], 10) - p) / (2 * 1e-3 * 30)
        alpha = alpha / alpha.norm() if renormalize else alpha
        for j in range(9):
            want = alpha[test.y[j]] * (lifted(trace.train.x[i]) @ lifted(test.x[j]))
            torch.testing.assert_close(scores[j, i], want, rtol=1e-9, atol=1e-12)


def test_self_influence_is_the_diagonal_and_not_negative():
    trace, _ = run()
    method = RepresenterPoint(1e-3)
    got = method.self_influence(trace)
    torch.testing.assert_close(
        got, method.fit(trace)(trace.train).diag(), rtol=1e-10, atol=0
    )
    assert bool((got >= 0).all())


def test_renormalised_shares_are_blind_to_the_scale_of_every_single_loss():
    weight, inputs, y = problem()
    constants = (
        torch.rand(
            len(y), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        * 100
        + 0.01
    )
    logits = (inputs @ weight.T).requires_grad_()
    (g,) = torch.autograd.grad(
        (constants * F.cross_entropy(logits, y, reduction="none")).sum(), logits
    )
    got = decomposition(weight, inputs, y, 0.01).directions
    torch.testing.assert_close(
        got, -g / g.norm(dim=1, keepdim=True), rtol=1e-12, atol=1e-12
    )


def test_renormalised_shares_survive_any_confidence():
    weight, inputs, _ = problem()
    logits = inputs @ weight.T * 2000
    y = logits.argmax(1)
    got = decomposition(weight * 2000, inputs, y, 0.01)
    runner_up = logits.scatter(1, y[:, None], -torch.inf).argmax(1)
    assert float(got.alpha.abs().amax(1).min()) < 1e-300  # of the loss nothing is left
    want = (F.one_hot(y, 4) - F.one_hot(runner_up, 4)) / 2**0.5
    assert float((got.directions - want).norm(dim=1).median()) < 1e-6
    torch.testing.assert_close(
        got.directions.norm(dim=1),
        torch.ones(len(y), dtype=torch.float64),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("l2", [2.5e-4, 3e-3])
def test_a_trained_head_on_digits_becomes_stationary(
    digits: tuple[Dataset, Dataset], dtype: torch.dtype, l2: float
):
    data, test = (part.to(dtype=dtype) for part in digits)
    trace = train(data.take(torch.arange(600)), Recipe(model="cnn", epochs=4), 0)
    got = RepresenterPoint(l2).decompose(trace)
    assert float(got.gradient.norm()) < 1e-10
    assert got.error < 1e-8
    scores = RepresenterPoint(l2).fit(trace)(test)
    assert scores.dtype == dtype
    assert scores.shape == (len(test), 600)


def test_a_head_that_does_not_become_stationary_is_reported(monkeypatch):
    trace, test = run()
    monkeypatch.setattr(representer_point, "refit", lambda weight, *_: weight)
    with pytest.warns(UserWarning, match=r"not stationary: \|grad J\| = "):
        scores = RepresenterPoint().fit(trace)(test)
    assert scores.shape == (9, 30)


def test_a_head_that_is_not_linear_is_refused():
    trace, _ = run("test_oracles_representer:Crooked")
    with pytest.raises(
        ConfigError, match=r"must be linear, nn\.Linear, got Sequential"
    ):
        RepresenterPoint().fit(trace)


@pytest.mark.parametrize("l2", [0.0, -1.0, float("nan"), float("inf")])
def test_a_regulariser_out_of_range_names_the_rule_and_the_value(l2: float):
    with pytest.raises(ValueError, match=f"l2 must be positive and finite, got {l2}"):
        RepresenterPoint(l2=l2)


def test_fitting_leaves_no_test_points_and_no_trace_changed():
    trace, test = run()
    before = {k: v.clone() for k, v in trace.checkpoints[-1].state.items()}
    scorer = RepresenterPoint().fit(trace)
    assert torch.equal(scorer(test), scorer(test))
    assert scorer(test.take(torch.tensor([], dtype=torch.int64))).shape == (0, 30)
    assert all(
        torch.equal(v, before[k]) for k, v in trace.checkpoints[-1].state.items()
    )
