"""Removal by a refitted head against refits one by one, and removal support.

The latter where it is known how many rows hold a point up.
"""

from dataclasses import replace

import pytest
import torch
from conftest import random_data
from torch import Tensor

from defenses.detectors.removal_support import RemovalSupport
from defenses.kit.crossing import crossing
from defenses.kit.features import Layer, centred, features_of
from defenses.kit.head.fit import Head, fit_head
from defenses.kit.refitted_head import Candidates, Pool, candidates, lead
from defenses.kit.removal import adaptive, nested
from estimators.group import displacement
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset, join
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

L2, N = 1e-2, 40


@pytest.fixture(scope="module")
def trace() -> Trace:
    return train(
        random_data(N, classes=3),
        Recipe("mlp", epochs=2, batch_size=10, checkpoints=1),
        seed=0,
    )


@pytest.fixture(scope="module")
def test() -> Dataset:
    return random_data(6, classes=3, seed=1)


def design(
    trace: Trace, test: Dataset, layer: Layer = "inner"
) -> tuple[Tensor, Tensor, Tensor]:
    """The head's inputs of the training rows (n, D) and of the test points.

    And the one-hot labels.
    """
    rows = features_of(trace, layer, trace.train).double()
    points = features_of(trace, layer, test).double()
    size = centred(rows).square().sum(1).mean().sqrt()
    a, t = (
        torch.cat([(x - rows.mean(0)) / size, torch.ones(len(x), 1).double()], 1)
        for x in (rows, points)
    )
    return a, t, torch.eye(trace.train.classes, dtype=torch.float64)[trace.train.y]


def votes_without(
    gone: list[int], trace: Trace, test: Dataset, layer: Layer = "inner"
) -> Tensor:
    """Votes of the head refitted without the terms of some rows, (m, C).

    The least-squares problem is solved anew.
    """
    a, t, labels = design(trace, test, layer)
    keep = [i for i in range(len(a)) if i not in gone]
    ridge = (L2 * len(a)) ** 0.5 * torch.eye(a.shape[1], dtype=a.dtype)
    stacked = (
        torch.cat([a[keep], ridge]),
        torch.cat([labels[keep], labels.new_zeros(a.shape[1], labels.shape[1])]),
    )
    return t @ torch.linalg.lstsq(*stacked, driver="gelsd").solution


def head_of(trace: Trace, test: Dataset, layer: Layer) -> Head:
    """The head on the victim's features."""
    rows = features_of(trace, layer, trace.train)
    points = features_of(trace, layer, test)
    return fit_head(rows, points, trace.train, L2)


def problem(trace: Trace, test: Dataset, q: int = 12) -> tuple[Candidates, Tensor]:
    rows = torch.rand(len(test), N, generator=generator(0, "candidates")).argsort(1)[
        :, :q
    ]
    head = head_of(trace, test, "inner")
    every = torch.arange(len(test))
    return candidates(head, every, test.y, rows, Pool.of(head, rows)), rows


def test_the_newton_step_is_the_head_refitted_without_every_one_of_the_nested_sets(
    trace: Trace, test: Dataset
) -> None:
    case, rows = problem(trace, test)
    leads = nested(case, "newton")
    for j, order in enumerate(rows.tolist()):
        for k in range(len(order) + 1):
            want = lead(votes_without(order[:k], trace, test)[j], test.y[j])[0]
            assert leads[j, k] == pytest.approx(float(want), abs=1e-9)


@pytest.mark.parametrize("order", ["first", "second", "newton"])
def test_every_order_is_the_displacement_of_the_heads_parameters(
    order, trace: Trace, test: Dataset
) -> None:
    """The detector's sums over nested sets are what `estimators.group` solves for.

    There it is one set and one column of W at a time.
    """
    case, rows = problem(trace, test)
    a, t, labels = design(trace, test)
    h = a.T @ a + L2 * N * torch.eye(a.shape[1], dtype=a.dtype)
    w = torch.linalg.solve(h, a.T @ labels)
    leads = nested(case, order)
    for j, k in ((0, 1), (1, 4), (2, 12), (5, 7)):
        s = rows[j, :k]
        own = [lambda v, s=s: v @ (a[s].T @ a[s])] * 3
        pull = ((a[s] @ w - labels[s]).T @ a[s]).contiguous()  # g_S, a row a class
        moved = displacement(
            order,
            lambda v: v @ h,
            own,
            pull,
            lambda p, b: torch.linalg.solve(p(torch.eye(len(h)).double()), b.T).T,
        )
        assert leads[j, k] == pytest.approx(
            float(lead(t[j] @ (w + moved.T), test.y[j])[0]), abs=1e-9
        )


def test_a_block_of_points_is_the_points_one_by_one(
    trace: Trace, test: Dataset
) -> None:
    influence = torch.rand(
        len(test), N, generator=generator(1, "influence"), dtype=torch.float64
    )
    whole = RemovalSupport()(Evidence(trace, test, influence))
    alone = torch.cat(
        [
            RemovalSupport()(
                Evidence(trace, test.take(torch.tensor([j])), influence[[j]])
            )
            for j in range(len(test))
        ]
    )
    assert torch.allclose(alone, whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alike", [False, True], ids=["weighed", "all alike"])
def test_adaptive_takes_what_brute_force_finds_best_by_refitting_without_each_row_in_turn(
    alike: bool, trace: Trace, test: Dataset
) -> None:
    case, rows = problem(trace, test, 8)
    weight = (
        torch.rand(len(test), 8, generator=generator(2, "weight"), dtype=torch.float64)
        - 0.2
    )
    if alike:
        weight = torch.ones_like(weight)
    leads = adaptive(case, weight, 8)
    for j, order in enumerate(rows.tolist()):
        gone: list[int] = []
        for k in range(9):
            votes = votes_without(gone, trace, test)
            here, second = (x[j] for x in lead(votes, test.y))
            assert leads[j, k] == pytest.approx(float(here), abs=1e-9)
            gains = {}
            for i, value in zip(order, weight[j].tolist(), strict=True):
                if i not in gone:
                    fall = (votes - votes_without([*gone, i], trace, test))[j]
                    gains[i] = max(value, 0.0) * float(fall[test.y[j]] - fall[second])
            if here <= 0 or not gains or max(gains.values()) <= 0:
                assert (leads[j, k:] - here).abs().max() < 1e-9, (
                    "it stops where nothing lowers the lead, and where there is none"
                )
                break
            gone.append(max(gains, key=lambda i: gains[i]))


@pytest.mark.parametrize(
    ("leads", "want"),
    [
        ([2.0, 1, -1, -3], 1.5),
        ([2.0, 1, 0, 3], 2.0),
        ([-0.25, -1, -1, -1], -0.25),
        ([2.0, 1, 1, 1], 15.0),
        ([2.0, 3, 3, 3], 20.0),
    ],
)
def test_the_crossing_counted_by_hand(leads: list[float], want: float) -> None:
    assert float(crossing(torch.tensor([leads]), 10)) == pytest.approx(want)


def held_up(copies: int) -> tuple[Evidence, list[int]]:
    """A point among rows of label 1 but for copies of itself with label 0.

    The influence is the head's, to first order.
    """
    g = generator(0, "held up")
    y = torch.arange(2).repeat(30)
    x = torch.nn.functional.one_hot(y, 6).double() * 3 + 0.5 * torch.randn(
        60, 6, generator=g, dtype=torch.float64
    )
    point = Dataset(torch.tensor([[0.0, 3, 0, 0, 0, 4]]).double(), torch.tensor([0]), 2)
    data = join([Dataset(x, y, 2), *[point] * copies])
    trace = train(data, Recipe("linear", epochs=1, checkpoints=1), seed=0)
    head = head_of(trace, point, "penultimate")
    influence = (head.points @ head.white(torch.arange(len(data))).T) * (
        head.residual[:, 0] - head.residual[:, 1]
    )
    return Evidence(trace, point, influence), list(range(60, 60 + copies))


@pytest.mark.parametrize("copies", [4, 10, 25])
def test_copies_that_hold_a_point_up_are_counted_by_the_group_and_overcounted_by_the_sum(
    copies: int,
) -> None:
    """Brute force: the smallest number of the copies whose removal turns the head.

    The head is refitted for each number.
    """
    evidence, rows = held_up(copies)
    votes = [
        votes_without(rows[:k], evidence.trace, evidence.test, "penultimate")[0]
        for k in range(copies + 1)
    ]
    truth = next(k for k, (held, other) in enumerate(votes) if held <= other)
    assert 0 < truth <= copies

    def count(order: str) -> float:
        detector = RemovalSupport(order, layer="penultimate", l2=L2)  # type: ignore[arg-type]
        return -float(detector(evidence)) * len(evidence.trace.train)

    for order in ("newton", "adaptive"):
        assert truth - 1 < count(order) <= truth, order
    assert count("first") > count("second") > truth + 0.5, (
        "each order sees more of what the copies share"
    )


def test_rows_of_other_labels_stay_and_of_a_label_without_rows_none_can_go(
    trace: Trace, test: Dataset
) -> None:
    influence = torch.rand(
        len(test), N, generator=generator(3, "influence"), dtype=torch.float64
    )
    labels = trace.train.y.clone()
    other = labels != test.y[:, None]
    for order in ("first", "second", "newton", "adaptive"):
        detector = RemovalSupport(order)  # type: ignore[arg-type]
        assert torch.equal(
            detector(Evidence(trace, test, influence)),
            detector(Evidence(trace, test, influence + 9 * other)),
        )
        few = replace(
            trace, train=trace.train.relabel(labels.masked_fill(labels == 2, 1))
        )
        assert detector(Evidence(few, test, influence)).isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RemovalSupport("third"),
            "order must be one of sum, first, second, newton, adaptive, got 'third'",
        ),
        (lambda: RemovalSupport(most=0), "most must be at least 1, got 0"),
        (lambda: RemovalSupport(l2=0.0), "l2 must be positive and finite, got 0.0"),
        (
            lambda: RemovalSupport(layer="first"),
            "layer must be one of inner, penultimate",
        ),
        (
            lambda: RemovalSupport(units="nats"),
            "units must be one of loss, margin, got 'nats'",
        ),
    ],
)
def test_a_field_out_of_range_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("n", [30, 150], ids=["fewer rows than features", "more rows"])
def test_blocks_and_single_precision_change_the_leads_by_rounding_alone(
    n: int, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_data(n, classes=3)
    trace = train(data, Recipe("mlp", epochs=2, batch_size=10, checkpoints=1), seed=0)
    features = features_of(trace, "inner", data), features_of(trace, "inner", test)
    rows = torch.rand(len(test), n, generator=generator(5, "rows")).argsort(1)[:, :20]

    def leads(dtype: torch.dtype) -> Tensor:
        of_rows, of_points = (values.to(dtype) for values in features)
        head = fit_head(of_rows, of_points, data, L2)
        every = torch.arange(len(test))
        case = candidates(head, every, test.y, rows, Pool.of(head, rows))
        return nested(case, "newton")

    whole = leads(torch.float64)
    assert (whole - leads(torch.float32)).abs().max() < 1e-4 * whole.abs().max()
    monkeypatch.setattr("defenses.kit.head.inputs._NUMBERS", 7 * 64)
    monkeypatch.setattr("defenses.kit.head.fit._COLUMNS", 10)
    assert (whole - leads(torch.float64)).abs().max() < 1e-12
