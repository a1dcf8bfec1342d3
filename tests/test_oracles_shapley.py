"""Shapley, Banzhaf and Beta values against enumeration of all subsets and orders.

Also axioms, and retraining on all subsets.
"""

import itertools
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import random_data
from scipy.stats import spearmanr
from torch import Tensor

from estimators.influence_functions import InfluenceFunctions
from estimators.kit.retraining import with_and_without
from estimators.shapley import permutations
from estimators.shapley.nearest_neighbours import knn_shapley
from estimators.shapley.permutations import contributions, fill
from estimators.shapley.permutations import levels as cut_levels
from estimators.shapley.sampling import Rule, Tally, sample
from estimators.shapley.semivalues import (
    beta_weights,
    draw_halves,
    draw_sized,
    semivalues,
    size_distribution,
)
from estimators.shapley.semivalues import levels as size_levels
from estimators.shapley.shapley import Shapley
from estimators.shapley.strides import cuts_at, frequencies
from estimators.shapley.walks import Round, Walk, draw, follow
from poisonbench.data import Dataset
from poisonbench.models import predict
from poisonbench.notes import collecting
from poisonbench.objectives import utility
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

Game = Callable[[Tensor], Tensor]
EXACT = Rule(permutations=100, precision=0.0, stride=1)


def subsets(n: int) -> Tensor:
    """All subsets, (2^n, n) bool; row s holds the players of the bits of s."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1


def lookup(table: Tensor) -> Game:
    """The game with v of subset s in row s of the table, (2^n, m)."""
    return lambda masks: table[(masks.long() << torch.arange(masks.shape[1])).sum(1)]


def random_table(n: int, m: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(
        (2**n, m), generator=generator(seed, "table"), dtype=torch.float64
    )


def enumerated(table: Tensor, weight: Callable[[int, int], float]) -> Tensor:
    """The semivalue (m, n) with weight(k, n) for each of the subsets of k others.

    By summing over all of them.
    """
    n = (len(table) - 1).bit_length()
    out = torch.zeros(table.shape[1], n, dtype=torch.float64)
    for i in range(n):
        for s in range(2**n):
            if not s >> i & 1:
                out[:, i] += weight(s.bit_count(), n) * (table[s | 1 << i] - table[s])
    return out


def shapley_weight(k: int, n: int) -> float:
    return math.factorial(k) * math.factorial(n - k - 1) / math.factorial(n)


def run(table: Tensor, rule: Rule, seed: int = 0) -> Tally:
    n = (len(table) - 1).bit_length()
    return sample(lookup(table), n, table[0], table[-1], rule, seed).tally


def walked(walk: Walk, table: Tensor, tolerance: float = 0.0) -> Tensor:
    visits, values = follow(walk, lookup(table), table[-1], tolerance)
    return fill(Round(walk, visits), values, table[0], table[-1], tolerance)


def all_orders(n: int) -> Walk:
    """Every permutation, each followed by its reverse, at stride 1."""
    ranks = torch.tensor(list(itertools.permutations(range(n))))
    both = torch.stack([ranks, n - 1 - ranks], 1).flatten(0, 1)
    return Walk(
        both, torch.arange(n + 1).expand(len(both), -1).contiguous(), frequencies(n, 1)
    )


def test_all_permutations_give_the_subset_formula():
    table = random_table(7)
    tally = Tally.of(table[0], 7)
    walk = all_orders(7)
    tally.add(walk, walked(walk, table))
    torch.testing.assert_close(
        tally.mean, enumerated(table, shapley_weight), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 7, 20, None])
def test_strides_add_no_bias_over_all_permutations_and_places_of_the_cuts(
    stride: int | None,
):
    """Exact, not statistical: the mean over every order and all u is the Shapley value."""
    n = 5
    table, orders, p = random_table(n), all_orders(n), frequencies(n, stride)
    breaks = (
        torch.cat([torch.zeros(1), p.cumsum(0) % 1, torch.ones(1)])
        .double()
        .sort()
        .values
    )  # the cuts are constant between
    total = torch.zeros(3, n, dtype=torch.float64)
    for low, high in itertools.pairwise(breaks.tolist()):
        if high - low > 1e-9:
            cuts = cuts_at(torch.tensor([(low + high) / 2]).double(), p).expand(2, -1)
            for ranks in orders.ranks.split(
                2
            ):  # a pair at a time: its levels then are a line, and no mean over the others
                walk, tally = Walk(ranks, cuts.contiguous(), p), Tally.of(table[0], n)
                tally.add(walk, walked(walk, table))
                total += tally.mean * (high - low) / (len(orders.ranks) // 2)
    torch.testing.assert_close(
        total, enumerated(table, shapley_weight), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("pairs", [1, 20])
@pytest.mark.parametrize("stride", [1, 2, 3, 7, 11, 12, 40, None])
@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_every_permutation_shares_out_the_whole_gain(
    stride: int | None, tolerance: float, pairs: int
):
    table = random_table(11)
    walk = draw(pairs, frequencies(11, stride), generator(0, "walk"))
    values = contributions(walk, walked(walk, table, tolerance))
    lengths = walk.cuts.diff(dim=1).double()
    gain = (table[-1] - table[0]).expand(2 * pairs, -1)
    torch.testing.assert_close(
        (values * lengths[:, :, None]).sum(1), gain, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8, 20, None])
def test_a_walk_is_permutations_and_their_reverses(stride: int | None):
    walk = draw(50, frequencies(8, stride), generator(0, "walk"))
    assert torch.equal(walk.ranks.sort(1).values, torch.arange(8).expand(100, -1))
    assert torch.equal(walk.ranks[::2] + walk.ranks[1::2], torch.full((50, 8), 7))
    assert torch.equal(walk.cuts[::2], walk.cuts[1::2])
    assert bool((walk.cuts[:, 0] == 0).all() and (walk.cuts[:, -1] == 8).all())
    for cuts, inner in zip(walk.cuts, walk.inner(), strict=True):
        sizes = cuts[inner].tolist()
        assert sizes == sorted(set(sizes))
        assert stride is None or all(
            b - a == stride for a, b in itertools.pairwise(sizes)
        )
    if stride == 1:
        assert torch.equal(walk.cuts, torch.arange(9).expand(100, -1))


@pytest.mark.parametrize("stride", [1, 4, 13, None])
def test_every_size_is_asked_as_often_as_its_weight_says(stride: int | None):
    p = frequencies(11, stride)
    walk = draw(20_000, p, generator(0, "walk"))
    asked = (
        torch.bincount(walk.cuts[walk.inner()], minlength=11)[1:11].double() / 40_000
    )
    assert bool(((asked - p).abs() <= 4 * (p * (1 - p) / 20_000).sqrt() + 1e-12).all())


def test_growing_strides_ask_a_permutation_as_often_as_the_logarithm_of_its_length():
    walk = draw(10, frequencies(1297, None), generator(0, "walk"))
    assert (
        8 <= float(walk.inner().sum(1).double().mean()) <= 9
    )  # the sum of 1/k up to 1296 is 7.7


@pytest.mark.parametrize("stride", [1, 3, None])
def test_additive_games_give_each_player_its_own_worth_and_null_players_nothing(
    stride: int | None,
):
    worth = torch.tensor([[1.0, -2.0, 0.0, 3.0, 0.5, 0.0]], dtype=torch.float64)
    table = subsets(6).double() @ worth.T + 0.7
    tally = run(
        table, replace(EXACT, stride=stride, permutations=100 if stride == 1 else 4000)
    )
    if stride == 1:
        torch.testing.assert_close(tally.mean, worth, rtol=0, atol=1e-12)
        assert float(tally.standard_error.max()) < 1e-12
    else:
        z = (tally.mean - worth) / tally.standard_error
        assert float(z.abs().max()) < 4


def test_a_null_player_of_any_game_has_the_value_0():
    table = random_table(6)
    masks = subsets(6)
    masks[:, 2] = False
    table = lookup(table)(masks)  # player 2 changes nothing
    assert float(run(table, EXACT).mean[:, 2].abs().max()) < 1e-12


def test_symmetric_players_have_equal_values():
    sizes = subsets(6)[:, [0, 3]].sum(
        1
    )  # players 0 and 3 count alike, beside a random game of the others
    others = subsets(6)
    others[:, [0, 3]] = False
    table = (
        lookup(random_table(6))(others) * (1 + sizes[:, None])
        + sizes[:, None].double() ** 2
    )
    walk, tally = all_orders(6), Tally.of(table[0], 6)
    tally.add(walk, walked(walk, table))
    torch.testing.assert_close(tally.mean[:, 0], tally.mean[:, 3], rtol=0, atol=1e-10)
    got = run(table, replace(EXACT, permutations=2000))
    spread = got.standard_error[:, 0] + got.standard_error[:, 3]
    assert bool(((got.mean[:, 0] - got.mean[:, 3]).abs() < 4 * spread).all())


def test_in_a_zero_sum_game_the_values_sum_to_0():
    table = random_table(6)
    table[-1] = table[0]
    for stride in (1, 4, None):
        total = run(table, replace(EXACT, stride=stride)).mean.sum(1)
        torch.testing.assert_close(
            total, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("stride", [1, 2, 3, 7, None])
def test_sampled_permutations_hit_the_value_within_four_standard_errors(
    stride: int | None,
):
    table = random_table(7)
    tally = run(table, replace(EXACT, permutations=4000, stride=stride))
    z = (tally.mean - enumerated(table, shapley_weight)) / tally.standard_error
    assert float(z.abs().max()) < 4


@pytest.mark.parametrize("stride", [1, 3, None])
def test_the_standard_error_of_permutation_sampling_is_the_spread_over_seeds(
    stride: int | None,
):
    table = random_table(6)
    tallies = [run(table, replace(EXACT, stride=stride), seed) for seed in range(200)]
    spread = torch.stack([t.mean for t in tallies]).std(0)
    claimed = torch.stack([t.standard_error for t in tallies]).square().mean(0).sqrt()
    assert float((spread / claimed - 1).abs().max()) < 0.2  # of 200 draws: 5 %


def test_sampling_stops_when_the_standard_error_is_a_small_part_of_what_is_shared_out():
    worth = torch.tensor(
        [[1.0, -2.0, 0.0, 3.0, 0.5, 0.0, 1.0, 1.0]], dtype=torch.float64
    )
    table = subsets(8).double() @ worth.T
    table += 0.3 * random_table(8, 1)
    rule = Rule(permutations=10_000, precision=0.01, stride=1)
    got = sample(lookup(table), 8, table[0], table[-1], rule, 0)
    assert got.stopped == "precision"
    assert 100 <= 2 * got.tally.pairs < 10_000
    assert float(got.tally.standard_error.max()) <= 0.01 * float(
        (table[-1] - table[0]).abs()
    )
    before = sample(
        lookup(table),
        8,
        table[0],
        table[-1],
        replace(rule, permutations=2 * got.tally.pairs - 100),
        0,
    )
    assert before.stopped == "permutations"
    never = sample(
        lookup(table),
        8,
        table[0],
        table[-1],
        replace(rule, precision=0.0, permutations=300),
        0,
    )
    assert (never.stopped, 2 * never.tally.pairs) == ("permutations", 300)


def saturating(n: int, seed: int = 0) -> Tensor:
    """A monotone game that is nearly D with few players: 1 - exp(-sum of worths)."""
    worth = (
        torch.rand((n, 2), generator=generator(seed, "worth"), dtype=torch.float64) * 2
    )
    return 1 - (-(subsets(n).double() @ worth)).exp()


@pytest.mark.parametrize("tolerance", [0.3, 0.1, 0.01])
def test_truncation_saves_values_and_moves_no_marginal_by_more_than_the_tolerance(
    tolerance: float,
):
    n, table = 10, saturating(10)
    walk = draw(50, frequencies(n, 1), generator(0, "walk"))
    asked = 0

    def ask(masks: Tensor) -> Tensor:
        nonlocal asked
        asked += len(masks)
        return lookup(table)(masks)

    visits, values = follow(walk, ask, table[-1], tolerance)
    short = contributions(
        walk, fill(Round(walk, visits), values, table[0], table[-1], tolerance)
    )
    whole = contributions(walk, walked(walk, table))
    assert asked == sum(map(len, visits)) < int(walk.inner().sum())
    assert 0 < float((short - whole).abs().max()) <= tolerance  # in a monotone game


def test_a_column_is_truncated_on_its_own_even_where_the_walk_went_on_for_others():
    table = torch.cat(
        [saturating(8), subsets(8).double().mean(1, keepdim=True)], 1
    )  # the last needs all players
    walk = draw(30, frequencies(8, 1), generator(0, "walk"))
    both, alone = (walked(walk, part, 0.1) for part in (table, table[:, :2]))
    assert torch.equal(both[..., :2], alone)


def test_no_tolerance_truncates_nothing_even_at_equality():
    table = (
        random_table(6) > 0
    ).double()  # as of a utility that is right or wrong: v(D) comes up early
    tally = run(table, replace(EXACT, permutations=4000))
    z = (tally.mean - enumerated(table, shapley_weight)) / tally.standard_error
    assert float(z.abs().max()) < 4
    assert sample(lookup(table), 6, table[0], table[-1], EXACT, 0).truncated == 0


@pytest.mark.parametrize("players", [1, 2, 3])
def test_games_of_very_few_players_are_solved(players: int):
    table = random_table(players)
    tally = run(table, replace(EXACT, permutations=2000))
    want = enumerated(table, shapley_weight)
    assert (
        float((tally.mean - want).abs().max())
        <= 4 * float(tally.standard_error.max()) + 1e-12
    )


def votes(train: Tensor, y: Tensor, test: Tensor, labels: Tensor, K: int) -> Tensor:
    """v of every subset of a nearest-neighbour vote, (2^n, m)."""
    n = len(y)
    order = torch.cdist(test, train).argsort(dim=1, stable=True).tolist()
    table = torch.zeros(2**n, len(test), dtype=torch.float64)
    for s in range(2**n):
        for j in range(len(test)):
            nearest = [i for i in order[j] if s >> i & 1][:K]
            table[s, j] = sum(int(y[i] == labels[j]) for i in nearest) / K
    return table


@pytest.mark.parametrize("K", range(1, 11))
def test_neighbour_values_are_those_of_the_vote_for_every_k_also_above_n(K: int):
    n, g = 8, generator(K, "neighbours")
    train, test = (
        torch.randn(n, 2, generator=g, dtype=torch.float64),
        torch.randn(4, 2, generator=g, dtype=torch.float64),
    )
    train[5] = train[1]  # equally distant: ordered by row
    y, labels = torch.randint(2, (n,), generator=g), torch.randint(2, (4,), generator=g)
    table = votes(train, y, test, labels, K)
    got = knn_shapley(train, y, test, labels, K)
    torch.testing.assert_close(
        got, enumerated(table, shapley_weight), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(got.sum(1), table[-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        knn_shapley(train, y, test, labels, K, entries=1), got, rtol=0, atol=0
    )


def test_a_single_instance_has_its_vote():
    x, y = torch.zeros(1, 2), torch.tensor([1])
    for K in (1, 3):
        assert float(knn_shapley(x, y, x, y, K)) == pytest.approx(1 / K)
        assert float(knn_shapley(x, y, x, 1 - y, K)) == 0


def test_neighbour_values_of_the_estimator_are_those_of_the_penultimate_features():
    trace, test = (
        train(random_data(40), Recipe(model="mlp", epochs=2), 0),
        random_data(6, seed=2),
    )
    model = trace.model()
    features = [predict(model.features, part.x) for part in (trace.train, test)]
    want = knn_shapley(features[0], trace.train.y, features[1], test.y, 3)
    assert torch.equal(Shapley("knn", neighbours=3).fit(trace)(test), want)


def banzhaf_weight(k: int, n: int) -> float:
    return 0.5 ** (n - 1)


def beta_weight(alpha: float, beta: float) -> Callable[[int, int], float]:
    """Section 3 of Kwon & Zou for one subset, in factorials.

    The integral of t^k (1 - t)^(n-1-k) under the beta density.
    """

    def weight(k: int, n: int) -> float:
        log = (
            math.lgamma(k + beta)
            + math.lgamma(n - 1 - k + alpha)
            - math.lgamma(n - 1 + alpha + beta)
        )
        return math.exp(
            log + math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
        )

    return weight


def test_banzhaf_over_all_subsets_is_the_enumeration():
    table = random_table(6)
    values, _ = with_and_without(table, subsets(6))
    torch.testing.assert_close(
        values, enumerated(table, banzhaf_weight), rtol=0, atol=1e-12
    )


def test_sampled_banzhaf_values_are_within_four_standard_errors():
    table = random_table(6)
    masks = draw_halves(20_000, 6, generator(0, "halves"))
    values, errors = with_and_without(lookup(table)(masks), masks)
    assert (
        float(((values - enumerated(table, banzhaf_weight)) / errors).abs().max()) < 4
    )
    assert float(errors.max()) < 0.05


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 1.0), (4.0, 1.0), (1.0, 4.0), (16.0, 1.0), (0.5, 2.0)]
)
def test_beta_weights_sum_to_1_and_are_those_of_one_subset_times_their_number(
    alpha: float, beta: float
):
    for n in (2, 6, 40):
        weights = beta_weights(n, alpha, beta)
        want = [math.comb(n - 1, k) * beta_weight(alpha, beta)(k, n) for k in range(n)]
        torch.testing.assert_close(
            weights, torch.tensor(want, dtype=torch.float64), rtol=1e-10, atol=0
        )
        assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(
        beta_weights(1300, alpha, beta).sum(),
        torch.ones((), dtype=torch.float64),
        rtol=0,
        atol=1e-9,
    )


def test_beta_of_ones_weighs_all_sizes_alike_and_alpha_favours_small_subsets():
    torch.testing.assert_close(
        beta_weights(9, 1, 1),
        torch.full((9,), 1 / 9, dtype=torch.float64),
        rtol=1e-12,
        atol=0,
    )
    assert float(beta_weights(100, 16, 1)[:10].sum()) > 0.7


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 1.0), (4.0, 1.0), (1.0, 4.0), (16.0, 1.0)]
)
def test_sampled_beta_values_are_within_four_standard_errors(alpha: float, beta: float):
    table, weights = random_table(6) + 5, beta_weights(6, alpha, beta)
    masks = draw_sized(20_000, size_distribution(weights), generator(0, "sized"))
    values, errors = semivalues(
        masks, lookup(table)(masks), weights, table[0], table[-1]
    )
    assert (
        float(
            ((values - enumerated(table, beta_weight(alpha, beta))) / errors)
            .abs()
            .max()
        )
        < 4
    )
    assert float(errors.max()) < 0.1


def test_beta_of_ones_is_the_shapley_value_and_shares_out_the_whole_gain():
    table, weights = random_table(7), beta_weights(7, 1, 1)
    masks = draw_sized(500, size_distribution(weights), generator(0, "sized"))
    values, _ = semivalues(masks, lookup(table)(masks), weights, table[0], table[-1])
    torch.testing.assert_close(values.sum(1), table[-1] - table[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(
        enumerated(table, beta_weight(1, 1)),
        enumerated(table, shapley_weight),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", ["banzhaf", "beta"])
def test_standard_errors_from_subsets_are_the_spread_over_seeds(kind: str):
    table, weights, drawn = random_table(6) + 2, beta_weights(6, 4, 1), []
    for seed in range(300):
        g = generator(seed, kind)
        masks = (
            draw_halves(200, 6, g)
            if kind == "banzhaf"
            else draw_sized(200, size_distribution(weights), g)
        )
        asked = lookup(table)(masks)
        drawn.append(
            with_and_without(asked, masks)
            if kind == "banzhaf"
            else semivalues(masks, asked, weights, table[0], table[-1])
        )
    values, errors = (torch.stack(part) for part in zip(*drawn, strict=True))
    assert float((values.std(0) / errors.square().mean(0).sqrt() - 1).abs().max()) < 0.2
    want = enumerated(table, banzhaf_weight if kind == "banzhaf" else beta_weight(4, 1))
    assert float(((values.mean(0) - want) / values.std(0) * 300**0.5).abs().max()) < 4


@pytest.mark.parametrize("stride", [1, None])
def test_what_a_diverged_model_is_part_of_is_left_out(stride: int | None):
    table = random_table(5, 1)
    broken = table.clone()
    broken[13] = torch.nan
    walk = draw(300, frequencies(5, stride), generator(0, "walk"))
    struck = (
        (
            (walk.masks(torch.arange(walk.cuts.numel())).long() << torch.arange(5)).sum(
                1
            )
            == 13
        )
        .view_as(walk.cuts)
        .any(1)
    )
    sound = ~struck.view(-1, 2).any(1).repeat_interleave(2)
    assert 0 < int(struck.sum()) < 300
    got, want = Tally.of(table[0], 5), Tally.of(table[0], 5)
    got.add(walk, walked(walk, broken))
    clean = Walk(walk.ranks[sound], walk.cuts[sound], walk.p)
    want.add(clean, walked(clean, table))
    assert (2 * got.pairs, torch.equal(got.values, want.values)) == (
        int(sound.sum()),
        True,
    )
    broken[-1] = torch.nan
    lost = sample(lookup(broken), 5, broken[0], broken[-1], EXACT, 0)
    assert (lost.stopped, bool(lost.tally.values.isnan().all())) == (
        "permutations",
        True,
    )
    weights = beta_weights(5, 1, 1)
    masks = draw_sized(200, size_distribution(weights), generator(0, "sized"))
    values = lookup(broken)(masks)
    kept = ~values.isnan().any(1)
    assert int(kept.sum()) < 200
    both = [
        semivalues(masks[rows], values[rows], weights, table[0], table[-1])
        for rows in (kept, slice(None))
    ]
    assert torch.equal(both[0][0], both[1][0])


def test_growing_strides_are_their_formula_in_loops():
    want = [min(1.0, 1 / k + 0.1 / (9 - k)) for k in range(1, 9)]
    assert frequencies(9, None).tolist() == pytest.approx(want, rel=1e-12)
    assert frequencies(9, 4).tolist() == [0.25] * 8


def test_sizes_are_drawn_by_the_contrasts_times_the_frequencies_in_loops():
    w = beta_weights(7, 4, 1).tolist()
    c = [w[k - 1] * (1 - k / 7) + w[k] * k / 7 for k in range(1, 7)]
    q = [c[k - 1] * min(1.0, 1 / k + 0.1 / (7 - k)) for k in range(1, 7)]
    found = size_distribution(torch.tensor(w, dtype=torch.float64))
    assert found.tolist() == pytest.approx([value / sum(q) for value in q], rel=1e-12)


def test_the_level_of_a_subset_is_the_mean_of_the_others_of_about_its_size_in_loops():
    g = generator(0, "levels")
    values = torch.randn(45, 2, generator=g, dtype=torch.float64)
    sizes = torch.randperm(45, generator=g)
    order = sizes.argsort().tolist()
    bins = [order[:23], order[23:]]  # 45 subsets in bins of about 16 are two
    found = size_levels(values, sizes)
    for rows in bins:
        for i in rows:
            others = [values[j] for j in rows if j != i]
            torch.testing.assert_close(found[i], torch.stack(others).mean(0))
    assert torch.equal(size_levels(values[:1], sizes[:1]), torch.zeros_like(values[:1]))


def test_the_level_of_a_cut_is_the_mean_over_the_other_pairs_in_loops():
    table = random_table(6)
    walk = draw(3, frequencies(6, 2), generator(0, "walk"))
    v = walked(walk, table)
    found = cut_levels(walk, v)
    for row in range(6):
        others = [v[other] for other in range(6) if other // 2 != row // 2]
        torch.testing.assert_close(found[row], torch.stack(others).mean(0))
    alone = Walk(walk.ranks[:2], walk.cuts[:2], walk.p)
    line = cut_levels(alone, v[:2])
    for place, size in enumerate(walk.cuts[0].tolist()):
        want = table[0] + (table[-1] - table[0]) * size / 6
        torch.testing.assert_close(line[0, place], want)


def test_a_tally_is_the_mean_of_pairs_and_its_standard_error_in_loops():
    table = random_table(5)
    walk = draw(4, frequencies(5, 1), generator(0, "walk"))
    tally = Tally.of(table[0], 5)
    tally.add(walk, walked(walk, table))
    pairs = []
    for first in range(0, 8, 2):
        both = torch.zeros(3, 5, dtype=torch.float64)
        for ranks in walk.ranks[first : first + 2].tolist():
            order = sorted(range(5), key=lambda i, r=ranks: r[i])
            before = 0
            for i in order:
                both[:, i] += (table[before | 1 << i] - table[before]) / 2
                before |= 1 << i
        pairs.append(both)
    estimates = torch.stack(pairs)
    torch.testing.assert_close(tally.values, estimates.mean(0))
    torch.testing.assert_close(tally.standard_error, estimates.std(0) / 2)
    own = tally.standard_error.argmax(1)
    rest = tally.standard_error.scatter(1, own[:, None], 0.0)
    assert tally.largest_error() == float(tally.standard_error.max())
    assert tally.largest_error(own) == float(rest.max())


def test_no_look_at_the_standard_error_is_taken_before_a_hundred_permutations():
    table = subsets(4).double() @ torch.ones(
        4, 1, dtype=torch.float64
    )  # no error from the first
    rule = Rule(permutations=1000, precision=0.5, stride=1)
    got = sample(lookup(table), 4, table[0], table[-1], rule, 0)
    assert (got.stopped, 2 * got.tally.pairs) == ("precision", 100)
    few = sample(
        lookup(table), 4, table[0], table[-1], replace(rule, permutations=98), 0
    )
    assert few.stopped == "permutations"


@pytest.mark.parametrize("method", ["permutation", "knn", "banzhaf", "beta"])
def test_a_model_in_the_place_of_a_trace_is_refused_before_any_work(method: str):
    trace = train(random_data(6), Recipe(model="linear", epochs=1), 0)
    with pytest.raises(TypeError, match="trace must be a Trace"):
        Shapley(method).fit(trace.model())


@pytest.mark.parametrize("method", ["permutation", "knn", "banzhaf", "beta"])
def test_no_test_points_have_no_scores(method: str):
    trace = train(random_data(6), Recipe(model="linear", epochs=1), 0)
    nothing = random_data(3).take(torch.zeros(0, dtype=torch.int64))
    assert Shapley(method, permutations=4, models=8).fit(trace)(nothing).shape == (0, 6)


# with models

CONVEX = Recipe(
    model="linear",
    epochs=15,
    batch_size=64,
    lr=0.3,
    momentum=0.0,
    weight_decay=0.05,
    schedule="constant",
)


def clusters(n: int, seed: int = 0, classes: int = 3) -> Dataset:
    """Gaussian classes that overlap."""
    g = generator(seed, "clusters")
    y = torch.randint(classes, (n,), generator=g)
    centres = (
        torch.randn(
            (classes, 4), generator=generator(0, "centres"), dtype=torch.float64
        )
        * 1.5
    )
    return Dataset(
        centres[y] + torch.randn((n, 4), generator=g, dtype=torch.float64), y, classes
    )


def retrained(
    trace: Trace,
    test: Dataset,
    measure: str,
    empty: Tensor,
    players: Tensor | None = None,
) -> Tensor:
    """v of every subset, (2^P, m), one model after another.

    Instance i belongs to player players[i].
    """
    players = torch.arange(len(trace.train)) if players is None else players
    table = [empty]
    for mask in subsets(int(players.max()) + 1)[1:]:
        model = train(trace.train.take(mask[players]), trace.recipe, trace.seed).model()
        table.append(utility(predict(model, test.x), test.y, measure))
    return torch.stack(table)


CHANCE = {"loss": -math.log(3), "margin": -math.log(2), "correct": 1 / 3}


def chance(measure: str, m: int) -> Tensor:
    return torch.full((m,), CHANCE[measure], dtype=torch.float64)


@pytest.mark.parametrize("measure", ["loss", "margin", "correct"])
@pytest.mark.parametrize("stride", [1, None])
def test_permutations_of_real_models_agree_with_retraining_on_all_subsets(
    measure: str, stride: int | None
):
    trace, test = train(clusters(5), CONVEX, 3), clusters(4, 1)
    table = retrained(trace, test, measure, chance(measure, 4))
    with collecting() as told:
        got = Shapley(
            permutations=600, precision=0.0, stride=stride, measure=measure
        ).fit(trace)(test)
    errors = told.arrays["standard_error"]
    want = enumerated(table, shapley_weight)
    torch.testing.assert_close(got.sum(1), table[-1] - table[0], rtol=0, atol=1e-10)
    assert bool(((got - want).abs() <= 4 * errors + 1e-10).all())
    assert float(errors.max()) < 0.05 * float(want.abs().max())
    assert told.figures["permutations"] == 600
    assert (
        told.figures["stopped"],
        told.figures["truncated"],
        told.figures["stride"],
    ) == (
        "permutations",
        0.0,
        stride or "growing",
    )


@pytest.mark.parametrize(
    ("method", "weight"), [("banzhaf", banzhaf_weight), ("beta", beta_weight(4, 1))]
)
def test_subsets_of_real_models_agree_with_retraining_on_all_subsets(
    method: str, weight: Callable[[int, int], float]
):
    trace, test = train(clusters(5), CONVEX, 3), clusters(4, 1)
    table = retrained(trace, test, "loss", chance("loss", 4))
    with collecting() as told:
        got = Shapley(method, models=4000, measure="loss").fit(trace)(test)
    z = (got - enumerated(table, weight)) / told.arrays["standard_error"]
    assert float(z.abs().max()) < 4
    assert told.figures["models"] <= 2**5


def test_labels_as_players_have_the_value_of_all_their_instances_together():
    data = clusters(12)
    trace, test = train(data, CONVEX, 3), clusters(4, 1)
    table = retrained(trace, test, "loss", chance("loss", 4), data.y)
    got = Shapley(
        permutations=1000, precision=0.0, measure="loss", players="labels"
    ).fit(trace)
    with collecting() as told:
        scores = got(test)
    want = enumerated(table, shapley_weight)[:, data.y]
    assert bool(
        ((scores - want).abs() <= 4 * told.arrays["standard_error"] + 1e-10).all()
    )


def test_the_log_tells_the_share_of_scores_below_two_standard_errors():
    trace, test = train(clusters(8), CONVEX, 3), clusters(4, 1)
    with collecting() as told:
        got = Shapley("banzhaf", models=24, measure="loss").fit(trace)(test)
    errors = told.arrays["standard_error"]
    pairs = list(zip(got.flatten().tolist(), errors.flatten().tolist(), strict=True))
    unclear = sum(abs(score) < 2 * error for score, error in pairs) / len(pairs)
    assert (
        sum(abs(score) < error for score, error in pairs)
        < unclear * len(pairs)
        < len(pairs)
    )
    assert told.figures["share_below_two_standard_errors"] == unclear
    assert told.figures["largest_standard_error"] == max(error for _, error in pairs)


def test_the_value_of_an_instance_on_itself_is_the_diagonal():
    trace = train(
        random_data(70), Recipe(model="mlp", epochs=2), 0
    )  # more than a block of rows
    method = Shapley("knn", neighbours=3)
    full = method.fit(trace)(trace.train)
    assert torch.equal(method.self_influence(trace), full.diagonal())


def test_the_empty_set_predicts_chance_or_the_frequencies_of_the_classes():
    trace, test = train(clusters(30), CONVEX, 0), clusters(6, 1)
    counts = torch.bincount(trace.train.y, minlength=3).double() + 1
    prior = counts / counts.sum()
    for measure, wanted in (
        ("loss", prior.log()[test.y]),
        ("margin", (prior / (1 - prior)).log()[test.y]),
        ("correct", (test.y == counts.argmax()).double()),
    ):
        full = utility(predict(trace.model(), test.x), test.y, measure)
        for empty, v in (("chance", chance(measure, 6)), ("prior", wanted)):
            scores = Shapley(
                permutations=2, stride=15, measure=measure, empty=empty
            ).fit(trace)(test)
            torch.testing.assert_close(scores.sum(1), full - v, rtol=0, atol=1e-9)


def test_leave_one_out_shapley_and_influence_functions_rank_alike_on_a_convex_problem():
    n = 10
    trace, test = (
        train(clusters(n), replace(CONVEX, epochs=100), 0),
        clusters(8, 1),
    )  # one batch: gradient descent, converged
    full = utility(predict(trace.model(), test.x), test.y, "loss")
    without = [
        predict(
            train(trace.train.take(torch.arange(n) != i), trace.recipe, 0).model(),
            test.x,
        )
        for i in range(n)
    ]
    loo = torch.stack([full - utility(logits, test.y, "loss") for logits in without], 1)
    shapley = Shapley(permutations=100, precision=0.0, stride=1, measure="loss").fit(
        trace
    )(test)
    influence = InfluenceFunctions(
        "explicit", "hessian", damping=0.0, convention="B"
    ).fit(trace)(test)

    def agreement(a: Tensor, b: Tensor) -> float:
        return sum(
            float(spearmanr(x, y).statistic) for x, y in zip(a, b, strict=True)
        ) / len(a)

    assert agreement(loo, influence) > 0.9
    assert agreement(shapley, loo) > 0.6
    assert agreement(shapley, influence) > 0.6


def test_truncation_of_real_models_trains_fewer_and_stays_near():
    trace, test = train(clusters(24), CONVEX, 3), clusters(5, 1)
    whole = Shapley(permutations=100, precision=0.0, stride=2, measure="loss")
    with collecting() as told:
        short = replace(whole, tolerance=0.6).fit(trace)(test)
    assert 0.05 < told.figures["truncated"] < 1
    with collecting() as all_told:
        want = whole.fit(trace)(test)
    assert told.figures["models"] < all_told.figures["models"]
    torch.testing.assert_close(short.sum(1), want.sum(1), rtol=0, atol=1e-9)
    assert float((short - want).abs().max()) < 0.6


def test_new_test_points_cost_no_training(monkeypatch):
    trace = train(clusters(20), CONVEX, 0)
    scorers = [
        Shapley(permutations=20, stride=5),
        Shapley("banzhaf", models=30),
        Shapley("beta", models=30),
    ]
    fitted = [method.fit(trace) for method in scorers]
    monkeypatch.setattr(
        "estimators.shapley.game.train_many",
        lambda *a, **k: pytest.fail("trained again"),
    )
    for scorer in fitted:
        a, b = clusters(3, 1), clusters(2, 2)
        both = Dataset(torch.cat([a.x, b.x]), torch.cat([a.y, b.y]), 3)
        torch.testing.assert_close(
            scorer(both), torch.cat([scorer(a), scorer(b)]), rtol=1e-9, atol=1e-12
        )


KILLED = """
import sys, torch
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, "tests")
from test_oracles_shapley import clusters
from estimators.shapley.shapley import Shapley
from poisonbench.training import Recipe, train
torch.set_num_threads(1)
recipe = Recipe(model="mlp", epochs=4, batch_size=8, lr=0.05)
trace = replace(train(clusters(40), recipe, 0), scratch=Path(sys.argv[1]))
scorer = Shapley(permutations=100, precision=0.0, stride=4, measure="loss").fit(trace)
torch.save(scorer(clusters(5, 1)), sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_fit_goes_on_from_its_blocks_to_the_same_result(tmp_path: Path):
    def start(folder: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / folder, tmp_path / f"{folder}.pt"]
        )

    assert start("whole").wait(200) == 0
    blocks = sorted(path.name for path in (tmp_path / "whole").glob("*.h5"))
    killed, deadline = start("killed"), time.monotonic() + 200
    while (
        len(done := list((tmp_path / "killed").glob("*.h5"))) < 3
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    killed.kill()
    assert killed.wait(20) == -9
    assert 3 <= len(done) < len(blocks)
    stamps = {path: path.stat().st_mtime_ns for path in done}
    assert start("killed").wait(200) == 0
    assert {
        path: path.stat().st_mtime_ns for path in done
    } == stamps  # read, not made again
    assert sorted(path.name for path in (tmp_path / "killed").glob("*.h5")) == blocks
    got, want = (
        torch.load(tmp_path / f"{folder}.pt", weights_only=True)
        for folder in ("killed", "whole")
    )
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"method": "tmc"},
            "method must be one of permutation, knn, banzhaf, beta, got 'tmc'",
        ),
        (
            {"measure": "accuracy"},
            "measure must be one of loss, margin, correct, got 'accuracy'",
        ),
        ({"empty": "zero"}, "empty must be one of chance, prior, got 'zero'"),
        ({"players": "pairs"}, "players must be one of instances, labels, got 'pairs'"),
        ({"permutations": 1}, "permutations must be at least 2, got 1"),
        ({"neighbours": 0}, "neighbours must be at least 1, got 0"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"models": 1}, "models must be at least 4, got 1"),
        ({"tolerance": -0.1}, "tolerance must be non-negative and finite, got -0.1"),
        ({"precision": math.nan}, "precision must be non-negative and finite, got nan"),
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0.0"),
        (
            {"method": "knn", "players": "labels"},
            "players='labels' needs a method that retrains, got method='knn'",
        ),
    ],
)
def test_a_field_out_of_its_range_names_the_rule_and_the_value(
    fields: dict[str, object], message: str
):
    with pytest.raises(ValueError) as caught:
        Shapley(**fields)
    assert message in str(caught.value)


def test_a_walk_that_came_within_the_tolerance_stays_there_though_it_leaves_again():
    table = torch.tensor([0.0, 0.5, 0.95, 0.2, 1.0]).view(1, 5, 1)
    want = torch.tensor([0.0, 0.5, 1.0, 1.0, 1.0]).view(1, 5, 1)
    assert torch.equal(permutations._truncated(table, torch.ones(1), 0.1), want)
