"""Group influence against closed forms and refits.

And removal support against removal one by one.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from conftest import random_data
from test_oracles_influence import EXACT, logistic, losses, problem, refit
from torch import Tensor

from defenses.detectors.removal_support import RemovalSupport, needed
from estimators.group import GroupInfluence, retrained
from estimators.influence_functions import InfluenceFunctions
from estimators.kit.displacement import displacement
from estimators.leave_one_out import LeaveOneOut
from experiments.scene.kinds.groups import _effect
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset, join
from poisonbench.log import names
from poisonbench.models import predict
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train

HESSIAN = {"curvature": "hessian", "damping": 0.0, "tolerance": 1e-12}


def masks(groups: list[list[int]], n: int) -> Tensor:
    out = torch.zeros(len(groups), n, dtype=torch.bool)
    for s, group in enumerate(groups):
        out[s, group] = True
    return out


def dense(product: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
    """Solves with the matrix of a product."""
    return torch.linalg.solve(product(torch.eye(b.shape[1], dtype=b.dtype)), b.T).T


def ridge(n: int = 30, d: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Design (n, d), residuals (n,) at the optimum, H = (X^T X + l I) / n, and the parameters."""
    g = generator(0, "ridge")
    x = torch.randn(n, d, generator=g, dtype=torch.float64)
    y = x @ torch.ones(d, dtype=torch.float64) + torch.randn(
        n, generator=g, dtype=torch.float64
    )
    h = (x.T @ x + 2 * torch.eye(d, dtype=torch.float64)) / n
    theta = torch.linalg.solve(h * n, x.T @ y)
    return x, y - x @ theta, h, theta


def moved(order: str, groups: list[list[int]]) -> Tensor:
    x, r, h, _ = ridge()
    n = len(x)
    own = [lambda v, s=s: v @ (x[s].T @ x[s]) / n for s in groups]
    pull = torch.stack(
        [-(x[s].T @ r[s]) / n for s in groups]
    )  # gradient of the squared errors / 2
    return displacement(order, lambda v: v @ h, own, pull, dense)


@pytest.mark.parametrize("size", [1, 2, 8, 20])
def test_the_newton_step_of_ridge_is_the_closed_form_with_the_hat_matrix(
    size: int,
) -> None:
    """theta_-S - theta by the closed form, and the refit without the group.

    It is -(X^T X + l I)^-1 X_S^T (I - H_SS)^-1 r_S.
    """
    x, r, h, theta = ridge()
    s = list(range(size))
    inverse = torch.linalg.inv(h * len(x))
    hat = x[s] @ inverse @ x[s].T
    closed = (
        -inverse
        @ x[s].T
        @ torch.linalg.solve(torch.eye(size, dtype=torch.float64) - hat, r[s])
    )
    assert torch.allclose(moved("newton", [s])[0], closed, rtol=0, atol=1e-10)
    rest = slice(size, None)
    y = x @ theta + r
    refitted = torch.linalg.solve(
        x[rest].T @ x[rest] + 2 * torch.eye(5, dtype=torch.float64), x[rest].T @ y[rest]
    )
    assert torch.allclose(theta + moved("newton", [s])[0], refitted, rtol=0, atol=1e-10)


def test_second_order_is_nearer_than_first_at_every_size_and_the_first_is_additive() -> (
    None
):
    groups = [list(range(size)) for size in (1, 3, 6, 9, 12)]
    exact, first, second = (
        moved(order, groups) for order in ("newton", "first", "second")
    )
    errors = [(a - exact).norm(dim=1) for a in (first, second)]
    assert (errors[1] < errors[0]).all(), (
        "the next term of a series whose ratio is below 1"
    )
    assert (errors[0].diff() > 0).all(), "the larger the group, the worse the sum"
    singles = moved("first", [[i] for i in range(12)])
    assert torch.allclose(singles.sum(0), first[-1], rtol=0, atol=1e-12)


def test_a_group_of_one_is_the_influence_function_of_the_row() -> None:
    data, test = problem(60), problem(5, 1)
    trace = logistic(data)
    groups = torch.eye(60, dtype=torch.bool)[:7]
    scores = GroupInfluence("first", **HESSIAN).fit(trace, groups)(test)
    assert torch.allclose(scores, EXACT.fit(trace)(test)[:, :7], rtol=1e-7, atol=1e-10)


def refitted(data: Dataset, groups: Tensor, test: Dataset) -> Tensor:
    """L(without S) - L(with S), (m, s), by refitting a logistic regression.

    The terms of S are deleted.
    """
    full = torch.full((len(data),), 1 / len(data), dtype=torch.float64)
    base = losses(refit(data, full), test)
    return torch.stack(
        [
            losses(refit(data, full.masked_fill(group, 0.0)), test) - base
            for group in groups
        ],
        1,
    )


@pytest.mark.parametrize("layers", ["all", "last"])
def test_by_default_a_group_is_damped_as_its_rows_are(layers: str):
    trace = train(problem(40), Recipe("mlp", epochs=3, weight_decay=1e-3), 0)
    test = problem(5, seed=1)
    groups = masks([[0, 1, 2], [7], [3, 9, 30, 31]], 40)
    tight = {"layers": layers, "tolerance": 1e-12, "max_steps": 5_000}
    rows = InfluenceFunctions(**tight).fit(trace)(test)
    found = GroupInfluence("first", **tight).fit(trace, groups)(test)
    expected = torch.stack([rows[:, group].sum(1) for group in groups], 1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_second_order_beats_first_on_growing_groups_of_a_logistic_regression() -> None:
    data, test = problem(80), problem(12, 1)
    trace = logistic(data)
    order = data.y.argsort(
        stable=True
    )  # groups of one class: their rows pull the same way
    groups = masks([order[:size].tolist() for size in (4, 8, 16)], 80)
    want = refitted(data, groups, test)
    error = {
        o: (GroupInfluence(o, **HESSIAN).fit(trace, groups)(test) - want).norm(dim=0)
        for o in ("first", "second")
    }
    assert (error["second"] < error["first"]).all()


def copies(count: int = 8) -> tuple[Dataset, Dataset]:
    """A problem with `count` copies of one mislabelled row at its end.

    The test point is that row.
    """
    data = problem(60)
    row = Dataset(data.x[:1] * 1.5, (data.y[:1] + 1) % 3, 3)
    return join([data, *[row] * count]), row


def test_copies_matter_little_each_and_much_together_which_a_sum_cannot_see() -> None:
    data, row = copies()
    n, trace = len(data), logistic(data)
    groups = masks([[n - 1], list(range(n - 8, n))], n)
    one, everyone = refitted(data, groups, row)[0].tolist()
    assert everyone > 1.5 * 8 * one, "super-modular"
    first, second = (
        GroupInfluence(o, **HESSIAN).fit(trace, groups)(row)[0]
        for o in ("first", "second")
    )
    assert first[1] == pytest.approx(8 * float(first[0]), rel=1e-6), (
        "the first order is a sum"
    )
    assert first[1] < second[1] < everyone, "the second order sees a part of it"


def test_retraining_without_a_group_sees_the_copies_too_and_one_row_is_leave_one_out() -> (
    None
):
    data, row = copies()
    trace = train(
        data,
        Recipe("linear", epochs=30, batch_size=17, lr=0.2, momentum=0.0, checkpoints=1),
        seed=3,
    )
    n = len(data)
    groups = masks([[5], [n - 1], list(range(n - 8, n))], n)
    gains, errors = retrained(trace, groups, row)
    assert gains[0, 2] > 8 * gains[0, 1] > 0
    assert errors.isnan().all()
    alone = LeaveOneOut(repeats=1, candidates=(5, n - 1)).fit(trace)(row)
    assert torch.allclose(alone[:, [5, n - 1]], gains[:, :2], rtol=0, atol=1e-12)
    _, errors = retrained(trace, groups, row, repeats=3)
    assert (errors > 0).all()


def test_the_error_over_repeats_is_that_of_the_mean_of_paired_runs() -> None:
    data = problem(24)
    recipe = Recipe("linear", epochs=2, batch_size=6, checkpoints=1)
    trace = train(data, recipe, seed=3)
    groups = masks([[0, 1, 2], [7]], 24)
    test = problem(4, 1)
    gains, errors = retrained(trace, groups, test, "margin", repeats=3)
    singles = []
    for seed in (3, derive(3, "group", 1), derive(3, "group", 2)):
        one, _ = retrained(
            dataclasses.replace(trace, seed=seed), groups, test, "margin"
        )
        singles.append(one)
    each = torch.stack(singles)
    torch.testing.assert_close(gains, each.mean(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(errors, each.std(0) / 3**0.5, rtol=1e-9, atol=1e-12)


def test_a_group_without_which_the_test_point_is_lost_has_a_positive_gain() -> None:
    """The sign: what helps is what is missed when it is gone."""
    data = problem(40)
    trace = train(
        data, Recipe("linear", epochs=10, batch_size=8, lr=0.2, checkpoints=1), seed=0
    )
    test = problem(12, 1).relabel(torch.zeros(12, dtype=torch.int64))
    groups = (data.y == 0)[None]
    gains, _ = retrained(trace, groups, test, "margin")
    assert float(gains.mean()) > 0


def test_a_net_takes_gauss_newton_of_all_parameters_and_a_small_group() -> None:
    data = problem(40)
    trace = train(data, Recipe("mlp", epochs=3, batch_size=8, checkpoints=1), seed=0)
    scores = GroupInfluence(damping=0.1).fit(trace, masks([[0, 1, 2], [7]], 40))(
        problem(4, 1)
    )
    assert scores.shape == (4, 2)
    assert scores.isfinite().all()


@pytest.mark.parametrize("order", ["first", "second", "newton"])
def test_the_head_alone_moves_as_a_dense_solve_of_its_gauss_newton_matrix(
    order,
) -> None:
    data, test = problem(40), problem(4, 1)
    trace = train(data, Recipe("mlp", epochs=3, batch_size=8, checkpoints=1), seed=0)
    groups = masks([[0, 1, 2, 9], [7]], 40)
    scores = GroupInfluence(order, damping=0.05, layers="last", tolerance=1e-12).fit(
        trace, groups
    )(test)
    model = trace.model()
    features, points = (
        predict(model.get_submodule("features"), part.x) for part in (data, test)
    )
    jacobians, logits = [], predict(model, data.x)
    for f in features:  # of the logits in (weight, bias)
        eye = torch.eye(3, dtype=f.dtype)
        jacobians.append(torch.cat([torch.kron(eye, f[None]), eye], 1))
    p, onehot = logits.softmax(1), torch.eye(3, dtype=logits.dtype)
    h = [
        j.T @ (torch.diag(q) - torch.outer(q, q)) @ j / 40
        for j, q in zip(jacobians, p, strict=True)
    ]
    g = [
        j.T @ (q - onehot[y]) / 40 for j, q, y in zip(jacobians, p, data.y, strict=True)
    ]
    whole = sum(h) + (0.05 + trace.recipe.weight_decay) * torch.eye(
        len(g[0]), dtype=logits.dtype
    )
    for s, group in enumerate(groups):
        rows = group.nonzero().squeeze(1).tolist()
        pull, part = sum(g[i] for i in rows), sum(h[i] for i in rows)
        moved = torch.linalg.solve(whole - part if order == "newton" else whole, pull)
        if order == "second":
            moved = moved + torch.linalg.solve(whole, part @ moved)
        for j, (f, q, y) in enumerate(
            zip(points, predict(model, test.x).softmax(1), test.y, strict=True)
        ):
            eye = torch.eye(3, dtype=f.dtype)
            jacobian = torch.cat([torch.kron(eye, f[None]), eye], 1)
            assert scores[j, s] == pytest.approx(
                float((q - onehot[y]) @ jacobian @ moved), abs=1e-10
            )


@pytest.mark.parametrize(
    ("groups", "part"),
    [
        (torch.zeros(1, 60, dtype=torch.bool), "at least one row"),
        (torch.ones(1, 60, dtype=torch.bool), "not all 60"),
        (torch.ones(1, 59, dtype=torch.bool), r"groups must be \(s, 60\) bool"),
        (torch.ones(1, 60), r"groups must be \(s, 60\) bool"),
    ],
    ids=["empty", "all", "width", "dtype"],
)
def test_groups_that_are_none_are_refused(groups: Tensor, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        GroupInfluence().fit(logistic(problem(60)), groups)


# ---- removal support


@pytest.mark.parametrize(
    ("helps", "lead", "want"),
    [
        ([5.0, 1, 1], 4.0, 0.8),
        ([5.0, 1, 1], 5.0, 1.0),
        ([1.0, 5, 1], 5.5, 1.5),
        ([1.0, 5, 1], 7.0, 3.0),
        ([1.0, 5, 1], 14.0, 4.5),
        ([0.0, 0, 0], 1.0, 6.0),
        ([1.0, 2, 0], 0.0, 0.0),
    ],
)
def test_the_rows_needed_counted_by_hand(
    helps: list[float], lead: float, want: float
) -> None:
    assert float(needed(torch.tensor([helps]), torch.tensor([lead]))) == pytest.approx(
        want, rel=1e-5
    )


def test_removal_support_is_the_count_at_which_a_linear_vote_changes_its_mind() -> None:
    """With exact influences on the margin the k most influential rows turn the label.

    Taking out k - 1 of them leaves it.
    """
    data = problem(50)
    trace = logistic(data)
    test = problem(20, 1)
    logits = predict(trace.model(), test.x)
    test = test.relabel(logits.argmax(1))
    lead = logits.topk(2, 1).values.diff(dim=1).neg().squeeze(1)
    influence = torch.randn(
        20, 50, generator=generator(0, "worth"), dtype=torch.float64
    )  # what each row adds to the lead
    scores = RemovalSupport("sum", units="margin")(Evidence(trace, test, influence))
    for point in range(20):
        k, left = 0, float(lead[point])
        for value in influence[point].sort(descending=True).values.tolist():
            if left <= 0 or value <= 0:
                break
            left, k = left - value, k + 1
        if left <= 0:
            assert k - 1 < -50 * float(scores[point]) <= k
        else:
            assert scores[point] < -1, "all rows that help do not suffice"


def test_loss_and_margin_give_the_same_support_where_they_mean_the_same() -> None:
    """A small change of the loss is sigmoid(-margin) times that of the margin."""
    trace, test = logistic(problem(50)), problem(20, 1)
    test = test.relabel(predict(trace.model(), test.x).argmax(1))
    logits = predict(trace.model(), test.x)
    p = logits.softmax(1).gather(1, test.y[:, None])
    influence = torch.rand(20, 50, generator=generator(0, "rows"), dtype=torch.float64)
    a = RemovalSupport("sum", units="margin")(Evidence(trace, test, influence))
    b = RemovalSupport("sum", units="loss")(Evidence(trace, test, influence * (1 - p)))
    assert torch.allclose(a, b, rtol=1e-9, atol=0)
    half = RemovalSupport("sum", units="margin", scale=0.5)(
        Evidence(trace, test, influence)
    )
    assert (half <= a).all(), "weaker influence needs more rows"


def test_a_grid_trains_again_with_the_weights_that_the_estimates_keep() -> None:
    """On a convex problem the second order is near; raised weights would be another question."""
    data = random_data(60, (5,), 3)
    points = random_data(8, (5,), 3, seed=3)
    recipe = Recipe(
        "linear",
        epochs=3000,
        batch_size=60,
        lr=0.5,
        weight_decay=0.05,
        schedule="constant",
        checkpoints=1,
    )
    trace = train(data, recipe, 0)
    rows = torch.zeros(10, 60, dtype=torch.bool)
    for i, row in enumerate(rows):
        draws = generator(0, "groups", i)
        row[torch.randperm(60, generator=draws)[: 2 + 2 * i]] = True
    effect = _effect(names.EFFECT_RETRAINING, trace, rows, points)
    exact = GroupInfluence(
        order="second", curvature="hessian", damping=0.0, tolerance=1e-10
    )
    estimate = exact.fit(trace, rows)(points)
    raised, _ = retrained(trace, rows, points, convention="B")
    apart = float((estimate - effect).norm() / effect.norm())
    assert apart < 0.1
    assert float((estimate - raised).norm() / raised.norm()) > 2 * apart
