"""Retraining estimators against closed forms.

Refitting, the hat matrix, enumeration, games whose values are known.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from conftest import random_data
from scipy import stats
from torch.nn import functional as F

from estimators.downsampling import Downsampling, balanced
from estimators.influence_functions import InfluenceFunctions
from estimators.kit.retraining import smaller_kept, with_and_without
from estimators.leave_one_out import LeaveOneOut
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.objectives import utility
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train, train_many
from poisonbench.training.trace import Trace

DECAY = 0.02


def blobs(n: int, seed: int, dimension: int = 4, classes: int = 3) -> Dataset:
    """Overlapping classes in float64."""
    g = generator(seed, "blobs")
    y = torch.randint(classes, (n,), generator=g)
    centers = torch.randn(
        (classes, dimension), generator=generator(0, "centers"), dtype=torch.float64
    )
    return Dataset(
        centers[y] + torch.randn((n, dimension), generator=g, dtype=torch.float64),
        y,
        classes,
    )


def converged(n: int, epochs: int = 500) -> Recipe:
    """Full-batch descent on the convex problem, to machine precision."""
    return Recipe(
        "linear",
        epochs,
        n,
        0.6,
        0.9,
        weight_decay=DECAY,
        schedule="constant",
        checkpoints=1,
    )


def refit(data: Dataset, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimises sum_i weights_i x cross entropy_i + (decay / 2) |theta|^2.

    By Newton's method; returns weight and bias.
    """
    x = torch.cat([data.x, torch.ones_like(data.x[:, :1])], 1)
    theta = torch.zeros(data.classes, x.shape[1], dtype=x.dtype)

    def objective(theta: torch.Tensor) -> torch.Tensor:
        losses = F.cross_entropy(
            x @ theta.view(data.classes, -1).T, data.y, reduction="none"
        )
        return (weights * losses).sum() + DECAY / 2 * theta.square().sum()

    for _ in range(12):
        gradient = torch.autograd.functional.jacobian(objective, theta.flatten())
        theta = (
            theta.flatten()
            - torch.linalg.solve(
                torch.autograd.functional.hessian(objective, theta.flatten()), gradient
            )
        ).view_as(theta)
    return theta[:, :-1], theta[:, -1]


@pytest.mark.parametrize("convention", ["A", "B"])
def test_leave_one_out_of_a_convex_problem_is_refitting_without_the_instance(
    convention: str,
):
    data, test = blobs(30, 0), blobs(7, 1)
    trace = train(data, converged(30), 0)
    got = LeaveOneOut(repeats=1, convention=convention, measure="margin").fit(trace)(
        test
    )

    def margins(mask: torch.Tensor) -> torch.Tensor:
        weight, bias = refit(data, mask / (30 if convention == "A" else mask.sum()))
        return utility(test.x @ weight.T + bias, test.y, "margin")

    without = [margins(1 - row) for row in torch.eye(30, dtype=torch.float64)]
    want = margins(torch.ones(30, dtype=torch.float64)) - torch.stack(without)
    torch.testing.assert_close(got, want.T, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("convention", ["A", "B"])
def test_leaving_a_group_out_is_refitting_without_it(convention: str):
    data, test = blobs(30, 0), blobs(7, 1)
    masks = (
        torch.rand((4, 30), generator=generator(0, "groups"))
        < torch.tensor([0.5, 0.7, 0.9, 0.2])[:, None]
    )
    ensemble = train_many(
        data, masks, converged(30), [0] * 4, batches="full", convention=convention
    )
    for mask, logits in zip(masks, ensemble.logits(test), strict=True):
        weight, bias = refit(
            data, mask.double() / (30 if convention == "A" else mask.sum())
        )
        torch.testing.assert_close(
            logits, test.x @ weight.T + bias, rtol=1e-8, atol=1e-10
        )


def test_one_full_step_without_an_instance_lacks_its_gradient_and_nothing_else():
    """theta_1 without i = theta_1 + (lr / n) g_i (convention A).

    With momentum, decay and any model.
    """
    data, test = random_data(12), random_data(3, seed=1)
    recipe = Recipe(
        "mlp",
        1,
        12,
        0.1,
        0.9,
        nesterov=True,
        weight_decay=0.01,
        schedule="constant",
        checkpoints=1,
    )
    trace = train(data, recipe, 0)
    got = LeaveOneOut(repeats=1, convention="A").fit(trace)(test)
    start, final = trace.initial(), trace.model()
    full = -F.cross_entropy(predict(final, test.x), test.y, reduction="none")
    for i in range(12):
        grads = torch.autograd.grad(
            F.cross_entropy(start(data.x[i : i + 1]), data.y[i : i + 1]),
            list(start.parameters()),
        )
        moved = trace.model()
        with torch.no_grad():
            for p, g in zip(moved.parameters(), grads, strict=True):
                p += recipe.lr * (1 + recipe.momentum) * g / 12
        want = full + F.cross_entropy(predict(moved, test.x), test.y, reduction="none")
        torch.testing.assert_close(got[:, i], want, rtol=1e-9, atol=1e-12)


def ridge(seed: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator(seed, "ridge")
    x, y = (
        torch.randn((n, 3), generator=g, dtype=torch.float64),
        torch.randn(n, generator=g, dtype=torch.float64),
    )
    return x, y, torch.randn((5, 3), generator=g, dtype=torch.float64)


def solve(x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(
        x[rows].T @ x[rows] + 0.3 * torch.eye(3, dtype=x.dtype), x[rows].T @ y[rows]
    )


def test_differences_of_ridge_predictions_are_those_of_the_hat_matrix():
    """Cook & Weisberg: theta - theta_-i = H^-1 x_i r_i / (1 - h_i).

    Here the estimator's arithmetic, on models in closed form.
    """
    x, y, test = ridge(0)
    everything = torch.ones(12, dtype=torch.bool)
    rows = [everything, *(everything & (torch.arange(12) != i) for i in range(12))]
    values = torch.stack([test @ solve(x, y, r) for r in rows])
    scores, errors = LeaveOneOut(repeats=1).differences(values)
    inverse = torch.linalg.inv(x.T @ x + 0.3 * torch.eye(3, dtype=x.dtype))
    leverage, residual = (x @ inverse * x).sum(1), y - x @ solve(x, y, everything)
    torch.testing.assert_close(
        scores,
        test @ inverse @ x.T * (residual / (1 - leverage)),
        rtol=1e-10,
        atol=1e-10,
    )
    assert bool(errors.isnan().all())
    twice, error = LeaveOneOut(repeats=2).differences(torch.cat([values, values * 3]))
    torch.testing.assert_close(twice, 2 * scores)
    torch.testing.assert_close(
        error, scores.abs()
    )  # of s and 3 s: s_n-1 = sqrt(2) |s|, over sqrt(2)


def test_a_group_of_ridge_instances_left_out_is_that_of_the_hat_matrix():
    """theta - theta_-S = H^-1 X_S^T (I - H_SS)^-1 r_S."""
    x, y, test = ridge(1)
    group = torch.tensor([1, 4, 7])
    rest = torch.ones(12, dtype=torch.bool).index_fill_(0, group, False)
    values = torch.stack(
        [test @ solve(x, y, torch.arange(12)), test @ solve(x, y, rest)]
    )
    inverse = torch.linalg.inv(x.T @ x + 0.3 * torch.eye(3, dtype=x.dtype))
    hat = x[group] @ inverse @ x[group].T
    residual = y[group] - x[group] @ solve(x, y, torch.arange(12))
    want = (
        test
        @ inverse
        @ x[group].T
        @ torch.linalg.solve(torch.eye(3, dtype=x.dtype) - hat, residual)
    )
    torch.testing.assert_close(
        LeaveOneOut(repeats=1).differences(values)[0][:, 0],
        want,
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_standard_error_of_three_repeats_is_the_sample_deviation_over_the_root_of_three():
    values = torch.tensor(
        [[5.0], [4.0], [7.0], [5.0], [9.0], [3.0]], dtype=torch.float64
    )
    scores, errors = LeaveOneOut(repeats=3).differences(values)  # gains 1, 2, 6
    assert scores.tolist() == [[3.0]]
    assert errors.tolist() == [[pytest.approx(math.sqrt(7) / math.sqrt(3))]]


def test_the_first_repeat_is_the_run_itself_and_every_other_model_has_a_seed_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
):
    seeds: dict[str, list[int]] = {}

    def train_nothing(*arguments: object, **_: object) -> None:
        seeds["given"] = list(arguments[3])
        raise InterruptedError

    for module in ("leave_one_out", "downsampling"):
        monkeypatch.setattr(f"estimators.{module}.train_many", train_nothing)
    trace = train(random_data(6), Recipe("linear", 1, 6, checkpoints=1), 5)
    other = train(random_data(6), Recipe("linear", 1, 6, checkpoints=1), 6)

    def asked(estimator: LeaveOneOut | Downsampling, trace: Trace) -> list[int]:
        with pytest.raises(InterruptedError):
            estimator.fit(trace)
        return seeds["given"]

    pairs = asked(LeaveOneOut(repeats=3), trace)
    assert pairs[:7] == [5] * 7
    assert [len(set(pairs[k : k + 7])) for k in (0, 7, 14)] == [1, 1, 1]
    assert len(set(pairs)) == 3
    drawn = [
        asked(Downsampling(models=8, seed=seed), run)
        for seed in (0, 1)
        for run in (trace, other)
    ]
    assert len({seed for row in drawn for seed in row}) == 32


def test_what_takes_less_room_is_kept():
    """60 predictions against 24 + 3 parameters of the linear model.

    Or 650 + of the perceptron with its 64 units.
    """
    for model, whole in (("linear", False), ("mlp", True)):
        trace = train(random_data(20, (8,), 3), Recipe(model, 1, 20, checkpoints=1), 0)
        assert smaller_kept(trace) is (trace.train if whole else None)


def test_an_instance_of_weight_0_has_no_influence_at_all():
    """An instance that no step sees: its run without it is the run with it, bit for bit."""
    data, test = random_data(20), random_data(4, seed=1)
    present = torch.ones(2, 20, dtype=torch.bool)
    present[:, 11] = False
    unseen = train_many(
        data, present, Recipe("mlp", 2, 8), [0, 0], batches="full"
    ).logits(test)
    assert torch.equal(unseen[0], unseen[1])


def test_candidates_alone_are_left_out_and_their_scores_stay_the_same():
    trace, test = (
        train(random_data(20), Recipe("mlp", 2, 8, checkpoints=1), 0),
        random_data(4, seed=1),
    )
    every, some = (
        LeaveOneOut(repeats=2, candidates=c).fit(trace)(test) for c in (None, (13, 2))
    )
    torch.testing.assert_close(
        some[:, [13, 2]], every[:, [13, 2]], rtol=1e-9, atol=1e-12
    )
    assert int(some.isnan().sum()) == 4 * 18
    own = LeaveOneOut(repeats=2, candidates=(13, 2)).self_influence(trace)
    assert own.isnan().nonzero().squeeze(1).tolist() == [
        i for i in range(20) if i not in (2, 13)
    ]
    with pytest.raises(
        ValueError, match=r"rows of the training set, in \[0, 20\), got \(20,\)"
    ):
        LeaveOneOut(candidates=(20,)).fit(trace)


def test_leave_one_out_and_influence_functions_agree_where_convex_and_cross_conventions_less():
    data, test = blobs(200, 0), blobs(20, 1)
    trace = train(data, converged(200, 300), 0)
    worst = {}
    for how in ("A", "B"):
        loo = LeaveOneOut(repeats=1, convention=how).fit(trace)(test)
        for formula in ("A", "B"):
            influence = InfluenceFunctions(
                solver="explicit", curvature="hessian", convention=formula
            ).fit(trace)(test)
            pairs = list(zip(loo.numpy(), influence.numpy(), strict=True))
            pearson = min(stats.pearsonr(a, b).statistic for a, b in pairs)
            spearman = min(stats.spearmanr(a, b).statistic for a, b in pairs)
            worst[how, formula] = float((loo - influence).norm() / loo.norm())
            if how == formula:
                assert pearson > 0.99
                assert spearman > 0.99
    assert max(worst["A", "A"], worst["B", "B"]) < min(worst["A", "B"], worst["B", "A"])


# games: utilities that are functions of the subset, in place of trained models

Game = Callable[[torch.Tensor], torch.Tensor]  # masks (K, n) float64 -> (K, m)


def additive(masks: torch.Tensor, worth: torch.Tensor) -> torch.Tensor:
    return masks @ worth


def curved(masks: torch.Tensor, worth: torch.Tensor) -> torch.Tensor:
    return (masks @ worth).tanh() + (masks[:, :1] * masks[:, 1:2])


def subsets(n: int, size: int | None = None) -> torch.Tensor:
    rows = torch.tensor(list(itertools.product([False, True], repeat=n)))
    return rows if size is None else rows[rows.sum(1) == size]


def worth(n: int, m: int = 2) -> torch.Tensor:
    return torch.randn((n, m), generator=generator(0, "worth"), dtype=torch.float64)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_over_all_subsets_of_a_size_the_score_is_the_mean_effect_of_taking_another_s_place(
    size: int,
):
    """E[F | i in] - E[F | i out], enumerated.

    It is E[F(S + i) - F(S + j)] over the others j and the S of size - 1 that lack both.
    """
    n, game = 6, partial(curved, worth=worth(6))
    masks = subsets(n, size)
    got, _ = with_and_without(game(masks.double()), masks)
    want = torch.zeros(2, n, dtype=torch.float64)
    for i in range(n):
        swaps = []
        for j in (j for j in range(n) if j != i):
            for base in itertools.combinations(
                [k for k in range(n) if k not in (i, j)], size - 1
            ):
                pair = torch.zeros(2, n, dtype=torch.float64)
                pair[:, list(base)] = 1
                pair[0, i] = pair[1, j] = 1
                swaps.append(game(pair)[0] - game(pair)[1])
        want[:, i] = torch.stack(swaps).mean(0)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        got.sum(1), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_subsets_that_lack_one_instance_give_centred_leave_one_out():
    n, game = 8, partial(curved, worth=worth(8))
    masks = ~torch.eye(n, dtype=torch.bool)
    got, _ = with_and_without(game(masks.double()), masks)
    loo = game(torch.ones(1, n, dtype=torch.float64)) - game(masks.double())  # (n, m)
    torch.testing.assert_close(
        got.T, (loo - loo.mean(0)) * n / (n - 1), rtol=1e-12, atol=1e-12
    )


def test_over_all_subsets_bernoulli_sampling_is_the_banzhaf_value():
    n, game = 6, partial(curved, worth=worth(6))
    masks = subsets(n)
    got, _ = with_and_without(game(masks.double()), masks)
    for i in range(n):
        without = masks[~masks[:, i]].double()
        joined = without.clone()
        joined[:, i] = 1
        torch.testing.assert_close(
            got[:, i], (game(joined) - game(without)).mean(0), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("fraction", [0.5, 0.3])
def test_balanced_subsets_have_their_size_and_hold_everyone_equally_often(
    fraction: float,
):
    masks = Downsampling(models=40, fraction=fraction).masks(20, 0)
    assert bool((masks.sum(1) == 20 * fraction).all())
    assert bool((masks.sum(0) == 40 * fraction).all())
    odd = Downsampling(models=7, fraction=0.5).masks(11, 0)
    assert bool((odd.sum(1) == 6).all())
    assert int(odd.sum(0).max() - odd.sum(0).min()) <= 1
    values = torch.randn((40, 3), generator=generator(0, "values"), dtype=torch.float64)
    scores, _ = with_and_without(values, masks)
    assert float(scores.sum(1).abs().max()) < 1e-12


def test_balanced_subsets_are_uniform():
    """Every pair of instances meets as often as in random subsets.

    No two subsets are alike or complements.
    """
    masks = balanced(400, 20, 10, generator(0, "balanced")).double()
    together = (masks.T @ masks)[~torch.eye(20, dtype=torch.bool)] / 400
    expected, spread = 10 * 9 / (20 * 19), math.sqrt(0.2368 * 0.7632 / 400)
    assert float(together.mean()) == pytest.approx(expected)
    assert float(((together - expected) / spread).abs().max()) < 4
    shared = (masks @ masks.T)[~torch.eye(400, dtype=torch.bool)]
    hypergeometric = stats.hypergeom(20, 10, 10)
    assert float(shared.var()) == pytest.approx(hypergeometric.var(), rel=0.05)


def test_complementary_pairs_would_double_the_variance_of_an_additive_game():
    """Why the design is not made of pairs, though they balance too."""
    game, n, K = partial(additive, worth=worth(20, 1)), 20, 40

    def pairs(g: torch.Generator) -> torch.Tensor:
        half = torch.rand((K // 2, n), generator=g).argsort(1).argsort(1) < n // 2
        return torch.cat([half, ~half])

    def variance(draw: Callable[[torch.Generator], torch.Tensor]) -> float:
        designs = [draw(generator(r, "design")) for r in range(300)]
        scores = torch.stack(
            [with_and_without(game(d.double()), d)[0] for d in designs]
        )
        return float(scores.var(0).mean())

    assert variance(pairs) / variance(
        lambda g: balanced(K, n, n // 2, g)
    ) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("sampling", ["fixed", "bernoulli"])
@pytest.mark.parametrize("game", [additive, curved], ids=["additive", "curved"])
def test_standard_errors_cover_the_true_value_as_often_as_they_say(
    sampling: str, game: Callable[..., torch.Tensor]
):
    """Over 400 repetitions the mean is unbiased (|z| < 4).

    The 95 % intervals hold the truth in about 95 %.
    """
    n, values = 12, partial(game, worth=worth(12) / 2)
    every = subsets(n, 6 if sampling == "fixed" else None)
    truth, _ = with_and_without(values(every.double()), every)
    noise = generator(0, "noise")
    scores, errors = [], []
    for seed in range(400):
        masks = Downsampling(models=60, sampling=sampling, seed=seed).masks(n, 0)
        drawn = values(masks.double())
        score, error = with_and_without(
            drawn
            + 0.3 * torch.randn(drawn.shape, generator=noise, dtype=torch.float64),
            masks,
        )
        scores.append(score)
        errors.append(error)
    s, e = torch.stack(scores), torch.stack(errors)
    z = (s.mean(0) - truth) / (s.std(0) / 20)
    assert float(z.abs().max()) < 4
    covered = ((s - truth).abs() < stats.t(58).ppf(0.975) * e).double().mean()
    assert 0.93 < float(covered) < 0.97


def test_an_instance_in_no_model_or_in_all_and_a_model_that_diverged_are_left_out():
    masks = torch.tensor(
        [[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]],
        dtype=torch.bool,
    )
    values = torch.tensor(
        [[1.0], [2.0], [4.0], [torch.nan], [9.0]], dtype=torch.float64
    )
    scores, errors = with_and_without(values, masks)
    assert scores[0].isnan().tolist() == [True, False, False, True]
    assert scores[0, 1:3].tolist() == pytest.approx([5 - 3, 5.5 - 2.5])
    assert errors[0, 1:3].tolist() == pytest.approx(
        [math.sqrt(32 / 2 + 2 / 2), math.sqrt(24.5 / 2 + 4.5 / 2)]
    )


def test_downsampling_says_which_instances_it_cannot_score():
    trace = train(random_data(10), Recipe("linear", 1, 8, checkpoints=1), 0)
    with pytest.warns(UserWarning, match="instances are in none or in all of 2 models"):
        scores = Downsampling(models=2, sampling="bernoulli").fit(trace)(
            random_data(3, seed=1)
        )
    lacking = scores.isnan().all(0)
    assert 0 < int(lacking.sum()) < 10
    assert torch.equal(scores.isnan().any(0), lacking)


@pytest.mark.parametrize(
    "estimator", [LeaveOneOut(repeats=2), Downsampling(models=20)], ids=repr
)
def test_standard_errors_and_their_share_reach_the_log(
    estimator: LeaveOneOut | Downsampling,
):
    trace, test = (
        train(random_data(20), Recipe("mlp", 2, 8, checkpoints=1), 0),
        random_data(4, seed=1),
    )
    with collecting() as notes:
        scores = estimator.fit(trace)(test)
    errors = notes.arrays["standard_error"]
    assert errors.shape == scores.shape
    assert bool((errors > 0).all())
    share = float((scores.abs() < 2 * errors).double().mean())
    assert notes.figures["share_below_two_standard_errors"] == pytest.approx(
        share, abs=0.02
    )


@pytest.mark.slow
def test_memorisation_finds_planted_label_flips(digits: tuple[Dataset, Dataset]):
    data = digits[0].take(torch.arange(600))
    flipped = torch.rand(600, generator=generator(0, "flips")) < 0.05
    y = torch.where(
        flipped,
        (data.y + 1 + torch.randint(9, (600,), generator=generator(1, "flips"))) % 10,
        data.y,
    )
    trace = train(data.relabel(y), Recipe("mlp", 20, 32, checkpoints=1), 0)
    scores = Downsampling(models=200).self_influence(trace).numpy()
    flips = flipped.numpy()
    ranks = stats.rankdata(scores)
    positives = int(flips.sum())
    auroc = (ranks[flips].sum() - positives * (positives + 1) / 2) / (
        positives * (600 - positives)
    )
    assert np.isfinite(scores).all()
    assert auroc > 0.95


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: LeaveOneOut(measure="accuracy"),
            "measure must be one of loss, margin, correct, got 'accuracy'",
        ),
        (lambda: LeaveOneOut(repeats=0), "repeats must be at least 1, got 0"),
        (
            lambda: LeaveOneOut(convention="C"),
            "convention must be one of A, B, got 'C'",
        ),
        (lambda: LeaveOneOut(candidates=(1, 1)), "candidates must be different rows"),
        (lambda: Downsampling(models=1), "models must be at least 2, got 1"),
        (lambda: Downsampling(fraction=1.0), r"fraction must lie in \(0, 1\), got 1.0"),
        (
            lambda: Downsampling(sampling="pairs"),
            "sampling must be one of fixed, bernoulli, got 'pairs'",
        ),
        (
            lambda: Downsampling(fraction=0.01).masks(10, 0),
            "leave 1 to 9 of 10 instances, got 0.01, which leaves 0",
        ),
    ],
)
def test_a_value_out_of_range_is_named_with_its_rule(
    make: Callable[[], object], match: str
):
    with pytest.raises(ValueError, match=match):
        make()
