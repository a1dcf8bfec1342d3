"""Losses other than cross entropy: gradients, products, curvature and estimators by brute force."""

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F

from defenses.detectors.removal_support import RemovalSupport
from defenses.filters.self_influence import SelfInfluence
from estimators.gas import GAS
from estimators.group import GroupInfluence
from estimators.influence_functions import InfluenceFunctions
from estimators.representer_point import RepresenterPoint
from estimators.tracin import TracIn
from poisonbench.api import influence
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.errors import ConfigError
from poisonbench.gradients import Form, dot_products, gradient_vectors, project
from poisonbench.gradients.curvature import (
    ekfac,
    flatten,
    gauss_newton_product,
    hessian_product,
)
from poisonbench.losses import LOSSES, LabelSmoothing, check_loss, each
from poisonbench.training import Recipe, train, train_many
from poisonbench.training.given.objective import check_apart
from poisonbench.training.trace import Trace


def focal(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss of someone else's, whose curvature is no expectation over labels."""
    plain = F.cross_entropy(outputs, y, reduction="none")
    return (1 - torch.exp(-plain)).square() * plain


def hinge(outputs: Tensor, y: Tensor) -> Tensor:
    """A loss without curvature."""
    own = outputs.gather(1, y[:, None])[:, 0]
    others = outputs.scatter(1, y[:, None], -torch.inf)
    return torch.relu(1 + others.amax(1) - own)


# name -> loss, number of outputs, what PyTorch computes for one instance
CASES = {
    "cross entropy": (
        "cross-entropy",
        3,
        lambda out, y: F.cross_entropy(out, y),
    ),
    "binary cross entropy": (
        "binary-cross-entropy",
        1,
        lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], y.to(out.dtype)),
    ),
    "mean squared error": (
        "mean-squared-error",
        3,
        lambda out, y: F.mse_loss(out, F.one_hot(y, 3).to(out.dtype)),
    ),
    "regression": (
        "mean-squared-error",
        1,
        lambda out, y: F.mse_loss(out[:, 0], y.to(out.dtype)),
    ),
    "label smoothing": (
        LabelSmoothing(0.2),
        3,
        lambda out, y: F.cross_entropy(out, y, label_smoothing=0.2),
    ),
    "focal": (focal, 3, lambda out, y: focal(out, y).mean()),
    "hinge": (hinge, 3, lambda out, y: hinge(out, y).mean()),
}
EACH = pytest.mark.parametrize("name", CASES)


def case(name: str, seed: int = 0):
    """A small network, training and test rows, the loss, and PyTorch's loss of one instance."""
    loss, outputs, reference = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, outputs))
    classes = max(2, outputs)
    train = random_data(6, (4,), classes)
    test = random_data(3, (4,), classes, seed=1)
    return model.double().eval(), train, test, loss, reference


def jacobian(model: nn.Module, data: Dataset, reference) -> Tensor:
    """The gradients of all instances, (n, p), by a backward pass each."""
    rows = []
    for i in range(len(data)):
        value = reference(model(data.x[i : i + 1]), data.y[i : i + 1])
        rows.append(_flat(torch.autograd.grad(value, list(model.parameters()))))
    return torch.stack(rows)


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


def hessian(model: nn.Module, data: Dataset, reference) -> Tensor:
    """The second derivatives of the mean loss, (p, p)."""
    p = list(model.parameters())
    values = [
        reference(model(data.x[i : i + 1]), data.y[i : i + 1]) for i in range(len(data))
    ]
    mean = torch.stack(values).mean()
    first = _flat(torch.autograd.grad(mean, p, create_graph=True))
    return torch.stack(
        [_flat(torch.autograd.grad(g, p, retain_graph=True)) for g in first]
    )


def gauss_newton(model: nn.Module, data: Dataset, reference) -> Tensor:
    """The mean of J^T H J, with J the Jacobian of one instance's outputs, (p, p)."""
    parameters = list(model.parameters())
    total = torch.zeros(())
    for i in range(len(data)):
        y = data.y[i : i + 1]
        out = model(data.x[i : i + 1])
        rows = [
            _flat(torch.autograd.grad(f, parameters, retain_graph=True)) for f in out[0]
        ]
        j = torch.stack(rows)
        at = out.detach()
        h = torch.autograd.functional.hessian(lambda o, y=y: reference(o, y), at)
        total = total + j.T @ h[0, :, 0] @ j
    return total / len(data)


@EACH
def test_a_loss_is_that_of_pytorch_one_instance_at_a_time(name: str):
    model, train, _, loss, reference = case(name)
    out = model(train.x)
    want = [reference(out[i : i + 1], train.y[i : i + 1]) for i in range(len(train))]
    torch.testing.assert_close(each(loss, out, train.y), torch.stack(want))
    check_apart(loss, out, train.y)


@EACH
def test_products_of_gradients_are_those_of_autograd(name: str):
    model, train, test, loss, reference = case(name)
    g = jacobian(model, train, reference)
    v = jacobian(model, test, reference)
    found = dot_products(model, train, test, Form(loss=loss))
    torch.testing.assert_close(found, v @ g.T, rtol=1e-10, atol=1e-12)
    whole = gradient_vectors(model, test, "loss", loss=loss)
    torch.testing.assert_close(flatten(whole), v, rtol=1e-10, atol=1e-12)
    along = project(model, train, whole, Form(loss=loss))
    torch.testing.assert_close(along, v @ g.T, rtol=1e-10, atol=1e-12)


@EACH
def test_curvature_is_the_second_derivative_and_its_part_by_the_outputs(name: str):
    model, train, test, loss, reference = case(name)
    v = jacobian(model, test, reference)
    found = hessian_product(model, train, v, 0.1, loss=loss)
    want = v @ hessian(model, train, reference) + 0.1 * v
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)
    found = gauss_newton_product(model, train, v, 0.1, loss=loss)
    want = v @ gauss_newton(model, train, reference) + 0.1 * v
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["mean squared error", "regression"])
def test_ekfac_of_a_linear_model_and_squared_error_is_exact(name: str):
    _, train, test, loss, reference = case(name)
    outputs = CASES[name][1]
    model = nn.Sequential(nn.Linear(4, outputs)).double().eval()
    v = jacobian(model, test, reference)
    g = gauss_newton(model, train, reference)
    want = torch.linalg.solve(g + torch.eye(len(g)).double() * 0.3, v.T).T
    found = ekfac.solve(ekfac.blocks(model, train, loss=loss), v, 0.3)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def test_ekfac_with_smoothed_labels_has_the_curvature_of_cross_entropy():
    model, train, test, loss, reference = case("label smoothing")
    v = jacobian(model, test, reference)
    found = ekfac.solve(ekfac.blocks(model, train, loss=loss), v, 0.3)
    want = ekfac.solve(ekfac.blocks(model, train), v, 0.3)
    torch.testing.assert_close(found, want)


def test_gradients_of_one_logit_are_right_at_any_confidence():
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).eval()
    nn.init.constant_(model[0].weight, 30.0)
    data = Dataset(torch.ones(1, 1), torch.tensor([1]), 2)
    (g,) = gradient_vectors(model, data, "loss", loss="binary-cross-entropy").values()
    want = -torch.sigmoid(torch.tensor(-30.0))
    torch.testing.assert_close(g.flatten()[0], want)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"cross entropy"}))
def test_the_margin_of_another_loss_is_refused_by_name(name: str):
    loss = CASES[name][0]
    with pytest.raises(ConfigError, match="the margin rests on cross entropy"):
        Form("margin", loss=loss)


def test_labels_are_drawn_for_cross_entropy_alone():
    model, train, _, loss, _ = case("mean squared error")
    with pytest.raises(ConfigError, match=r"drawing labels .* mean-squared-error"):
        ekfac.blocks(model, train, samples=2, loss=loss)


def test_what_is_no_loss_of_an_instance_is_refused_with_the_way_out():
    model, train, _, _, _ = case("cross entropy")
    out = model(train.x)
    with pytest.raises(ValueError, match=r"one of cross-entropy, .*did you mean"):
        check_loss("cross-entropi")
    with pytest.raises(TypeError, match="got int"):
        check_loss(3)
    with pytest.raises(ConfigError, match=r"must return \(6,\), got \(\).*reduction"):
        each(nn.CrossEntropyLoss(), out, train.y)

    def shared(outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.sum(1) / len(outputs)

    with pytest.raises(ConfigError, match="shared of an instance depends on those"):
        check_apart(shared, out, train.y)
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\)"):
        LabelSmoothing(1.0)


def test_a_loss_without_a_second_derivative_is_refused_where_curvature_is_asked():
    model, train, test, _, _ = case("cross entropy")

    def once(outputs: Tensor, y: Tensor) -> Tensor:
        return F.multi_margin_loss(outputs, y, reduction="none")

    dot_products(model, train, test, Form(loss=once))
    v = torch.ones(1, sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    with pytest.raises(ConfigError, match="loss once has no second derivative"):
        gauss_newton_product(model, train, v, loss=once)


def test_every_named_loss_has_a_case():
    named = {loss for loss, _, _ in CASES.values() if isinstance(loss, str)}
    assert named | {"label-smoothing"} == set(LOSSES)


def trace_of(name: str) -> tuple[Trace, Dataset, object]:
    """A run of two checkpoints of a small network, test points, and PyTorch's loss."""
    model, train, test, loss, reference = case(name)
    other, *_ = case(name, seed=7)
    states = [(other.state_dict(), 0.3), (model.state_dict(), 0.1)]
    run = Trace.of(model, train, states, loss=loss, weight_decay=0.01)
    if loss == "binary-cross-entropy":  # the run's model gives two logits of the one
        assert (run.loss, run.model()(test.x).shape) == ("cross-entropy", (3, 2))
    return run, test, reference


def plain(name: str) -> list[tuple[nn.Module, float]]:
    """The models of the run as the user has them, with their learning rates."""
    return [(case(name, seed=7)[0], 0.3), (case(name)[0], 0.1)]


@EACH
def test_tracin_and_gas_take_any_loss(name: str):
    run, test, reference = trace_of(name)
    want = torch.zeros(len(test), len(run.train), dtype=torch.float64)
    cosines = torch.zeros_like(want)
    for model, rate in plain(name):
        g = jacobian(model, run.train, reference)
        v = jacobian(model, test, reference)
        want += rate * v @ g.T
        cosines += rate * F.normalize(v, dim=1) @ F.normalize(g, dim=1).T
    torch.testing.assert_close(TracIn().fit(run)(test), want, rtol=1e-9, atol=1e-12)
    # F.normalize leaves 0 where there is no gradient, as beyond a hinge
    found = GAS().fit(run)(test)
    torch.testing.assert_close(found, cosines, rtol=1e-9, atol=1e-12)
    own = SelfInfluence()(Evidence(trace=run, test=test))
    squares = [
        r * jacobian(m, run.train, reference).square().sum(1) for m, r in plain(name)
    ]
    torch.testing.assert_close(own, squares[0] + squares[1])


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
@EACH
def test_influence_functions_take_any_loss(name: str, curvature: str):
    run, test, reference = trace_of(name)
    model = plain(name)[-1][0]
    g = jacobian(model, run.train, reference)
    v = jacobian(model, test, reference)
    matrix = {"gauss-newton": gauss_newton, "hessian": hessian}[curvature]
    h = matrix(model, run.train, reference)
    h = h + torch.eye(len(h)).double() * (0.01 + 2)
    estimator = InfluenceFunctions("explicit", curvature, damping=2)
    want = v @ torch.linalg.solve(h, g.T) / len(run.train)
    found = estimator.fit(run)(test)
    torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-12)
    groups = torch.eye(len(run.train), dtype=torch.bool)[:2]
    group = GroupInfluence("first", curvature, 2, tolerance=1e-12)
    torch.testing.assert_close(
        group.fit(run, groups)(test), want[:, :2], rtol=1e-7, atol=1e-10
    )


def test_what_rests_on_cross_entropy_says_so():
    run, test, _ = trace_of("mean squared error")
    with pytest.raises(
        ConfigError, match=r"representer-point rests .* mean-squared-error"
    ):
        RepresenterPoint().fit(run)
    evidence = Evidence(trace=run, test=test, influence=torch.ones(3, 6).double())
    with pytest.raises(ConfigError, match="removal-support of losses rests"):
        RemovalSupport(order="sum")(evidence)
    with pytest.raises(ConfigError, match=r"one output, and loss cross-entropy needs"):
        Trace.of(case("regression")[0], run.train)


def test_a_recipe_with_smoothed_labels_descends_them():
    data = random_data(6, (4,), 3)
    run = train(data, Recipe("mlp", epochs=1, label_smoothing=0.2), 0)
    assert run.loss == LabelSmoothing(0.2)
    x, y = data.x[:1], data.y[:1]
    model = run.model()
    F.cross_entropy(model(x), y, label_smoothing=0.2).backward()
    want = model.get_parameter("head.weight").grad
    (found,) = gradient_vectors(
        model, data.take(torch.tensor([0])), "loss", "last", run.loss
    )["head.weight"]
    torch.testing.assert_close(found, want)


def test_regression_counts_no_classes_by_its_outputs():
    model, train_rows, _, _, _ = case("regression")
    pair = (train_rows.x, train_rows.y)
    run = Trace.of(model, pair, loss="mean-squared-error")
    assert run.train.classes == 2
    with pytest.raises(ConfigError, match=r"one number, which is no label .*\(x, y\)"):
        influence(run, train_rows.x, "tracin")


def test_retrained_models_are_judged_by_the_loss_of_the_run():
    data = random_data(8, (4,), 3)
    everyone = torch.ones(2, len(data), dtype=torch.bool)
    models = train_many(data, everyone, Recipe("linear", epochs=1), [0, 1])
    found = models.utility(data, "loss", "mean-squared-error")
    wanted = F.one_hot(data.y, 3)
    errors = (models.logits(data) - wanted).square().mean(2)
    torch.testing.assert_close(found, -errors)
    plain = models.utility(data, "loss")
    torch.testing.assert_close(models.utility(data, "loss", LabelSmoothing()), plain)


def test_an_instance_without_gradient_has_no_direction_and_no_score():
    model, train_rows, test, _, _ = case("hinge")
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([9.0, 0.0, 0.0]))  # all of class 0 are sure
    for renormalize in ("all", "layer"):
        form = Form.of(hinge, renormalize)
        found = dot_products(model, train_rows, test, form)
        assert bool(found.isfinite().all())
        sure = train_rows.y == 0
        assert bool(sure.any())
        assert not bool(found[:, sure].any())
        assert bool(found[test.y != 0][:, ~sure].any())


def test_real_targets_are_looked_up_by_the_number_of_the_row():
    torch.manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.float64)
    targets = torch.rand(6, dtype=torch.float64)
    model = nn.Linear(3, 1).double()
    rows = torch.arange(6)
    run = Trace.of(
        model, (x, rows), lr=0.5, loss=lambda out, y: (out[:, 0] - targets[y]) ** 2
    )
    scores = TracIn().fit(run)(run.train)
    residual = 2 * (model(x)[:, 0] - targets).detach()
    extended = torch.cat([x, torch.ones(6, 1, dtype=torch.float64)], 1)
    gradients = residual[:, None] * extended
    assert torch.allclose(scores, 0.5 * gradients @ gradients.T)
