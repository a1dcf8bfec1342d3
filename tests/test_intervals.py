"""Intervals against closed forms, brute force, and how often they cover a truth that is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from experiments.bench.coverage import DRAWN, Setting, coverage
from experiments.evaluation.intervals import (
    POINTS,
    Measured,
    auroc_measured,
    bootstrap_intervals,
    difference_measured,
    mean_interval,
    rate_measured,
    t_quantile,
    wilson,
)
from experiments.evaluation.samples import Sample

Z = 1.959963984540054
SURE = 1e-12  # variance of a scene with points without end


def sure(*values: float, signed: bool = False) -> list[Measured]:
    """Scenes of which only the seeds are not known."""
    return [Measured(value, SURE, 1e12, signed) for value in values]


def width(groups) -> float:
    low, high = mean_interval(groups)
    return high - low


# ---- points


def test_a_rate_of_one_seed_has_the_published_interval_of_wilson():
    ends = mean_interval([[rate_measured(0.8, 10)]])
    assert ends == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson([0.8], 10) == ends


@pytest.mark.parametrize("n", [1, 40, 1000])
def test_a_rate_of_one_has_the_interval_of_its_points(n):
    low, high = mean_interval([[rate_measured(1.0, n)]])
    assert (low, high) == pytest.approx((n / (n + Z**2), 1.0))
    mirrored = mean_interval([[rate_measured(0.0, n)]])
    assert mirrored == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("seeds", [1, 3, 6, 7])
@pytest.mark.parametrize("n", [11, 240, 3600])
def test_the_interval_of_a_rate_of_none_begins_at_none_whatever_the_rounding(n, seeds):
    assert wilson([0.0] * seeds, n * seeds)[0] == 0
    assert wilson([1.0] * seeds, n * seeds)[1] == 1


def delong(positive, negative) -> float:
    """DeLong's variance by its definition: loops over placements."""

    def beats(x, y) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    rows = [np.mean([beats(x, y) for y in negative]) for x in positive]
    columns = [np.mean([beats(x, y) for x in positive]) for y in negative]
    return np.var(rows, ddof=1) / len(rows) + np.var(columns, ddof=1) / len(columns)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=7),
    st.lists(st.integers(0, 5), min_size=2, max_size=7),
)
def test_the_variance_of_an_auroc_is_that_of_delong(positive, negative):
    scores = (np.array(positive, float), np.array(negative, float))
    found = auroc_measured(scores)
    assert found.variance == pytest.approx(delong(positive, negative))
    assert found.points == POINTS * min(len(positive), len(negative))


def test_the_variance_of_an_auroc_is_about_that_of_resampled_points():
    rng = np.random.default_rng(0)
    positive = rng.normal(1, 1, 40)
    negative = rng.normal(0, 1, 60)
    drawn = [
        auroc_measured((rng.choice(positive, 40), rng.choice(negative, 60))).value
        for _ in range(3000)
    ]
    found = auroc_measured((positive, negative))
    assert found.variance**0.5 == pytest.approx(np.std(drawn), rel=0.08)


def test_perfect_separation_has_the_interval_of_four_points_for_each_attacked_one():
    pair = (np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0]))
    low, high = mean_interval([[auroc_measured(pair)]])
    assert (low, high) == pytest.approx((8 / (8 + Z**2), 1.0))
    narrower = mean_interval([[auroc_measured(pair)] * 3])
    assert narrower == pytest.approx((24 / (24 + Z**2), 1.0))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 9), (9, 1)])
def test_a_single_point_of_a_group_has_a_wide_interval_and_no_fault(sizes):
    positive = np.arange(sizes[0], dtype=float)
    negative = np.arange(sizes[1], dtype=float)
    for shift in (-99.0, 0.0, 99.0):
        assert width([[auroc_measured((positive + shift, negative))]]) > 0.5


def test_the_interval_shrinks_with_the_points():
    rng = np.random.default_rng(1)
    widths = []
    for n in (25, 100, 400):
        scores = (rng.normal(1, 1, n), rng.normal(0, 1, n))
        widths.append(width([[auroc_measured(scores)]]))
    assert widths == sorted(widths, reverse=True)


def test_a_difference_has_the_variance_of_the_difference_of_wins():
    rng = np.random.default_rng(2)
    positive = rng.normal(1, 1, 30)
    negative = rng.normal(0, 1, 50)
    one = (positive, negative)
    other = (positive + rng.normal(0, 0.1, 30), negative)
    found = difference_measured(one, other)
    apart = auroc_measured(one).variance + auroc_measured(other).variance
    assert found.signed
    assert found.variance < apart / 4, "what both see cancels"
    back = difference_measured(other, one)
    low, high = mean_interval([[found]])
    assert mean_interval([[back]]) == pytest.approx((-high, -low))


def test_detectors_that_order_every_pair_alike_may_still_differ_a_little():
    pair = (np.array([3.0, 4.0]), np.array([1.0, 2.0, 0.0]))
    low, high = mean_interval([[difference_measured(pair, pair)]])
    half = Z * np.sqrt(2) / (8 + 2)
    assert (low, high) == pytest.approx((-half, half))


# ---- seeds


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_that_differ_have_students_interval(seeds):
    values = np.linspace(-0.01, 0.01, seeds)
    low, high = mean_interval([sure(*values, signed=True)])
    half = t.ppf(0.975, seeds - 1) * values.std(ddof=1) / np.sqrt(seeds)
    assert (low, high) == pytest.approx((-half, half))


def test_of_rates_the_ends_are_wilsons_at_students_quantile():
    low, high = mean_interval([sure(0.4, 0.5, 0.6)])
    quantile = t.ppf(0.975, 2)
    variance = 0.1**2 / 3
    for end in (low, high):
        # where the distance is as many standard errors as the quantile, at the rate of the end
        error = np.sqrt(end * (1 - end) * variance / 0.25)
        assert abs(end - 0.5) == pytest.approx(quantile * error)


def test_one_seed_has_the_interval_of_its_points_and_equal_seeds_that_of_all_points():
    one = rate_measured(0.5, 100)
    assert mean_interval([[one, one]]) == pytest.approx(
        mean_interval([[rate_measured(0.5, 200)]])
    )


def test_the_interval_is_never_narrower_than_that_of_the_points():
    scenes = [rate_measured(rate, 50) for rate in (0.5, 0.5, 0.5, 0.5, 0.52)]
    low, high = mean_interval([scenes])
    own = mean_interval([[rate_measured(0.504, 250)]])
    assert (low, high) == pytest.approx(own, abs=1e-4)
    assert high - low > 3 * width([sure(0.5, 0.5, 0.5, 0.5, 0.52)])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=3)
)
def test_an_interval_lies_within_its_bounds_and_holds_the_mean(groups):
    measured = [[rate_measured(value, 30) for value in values] for values in groups]
    low, high = mean_interval(measured)
    mean = np.mean([np.mean(values) for values in groups])
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1


# ---- attacks


def test_attacks_stand_as_they_are_however_they_differ():
    assert width([sure(0.1, 0.1), sure(0.9, 0.9)]) < 1e-4
    assert width([sure(0.1, 0.9)]) > 0.9, "but seeds are drawn"


def test_degrees_of_freedom_of_attacks_add_up():
    values = (-0.01, 0.01)
    group = sure(*values, signed=True)
    low, high = mean_interval([group, group, group])
    error = np.std(values, ddof=1) / np.sqrt(2 * 3)
    assert (high - low) / 2 == pytest.approx(t.ppf(0.975, 3) * error)


def test_groups_count_alike_whatever_the_number_of_their_scenes():
    low, high = mean_interval([sure(0.2, 0.2, 0.2), sure(0.6)])
    assert (low + high) / 2 == pytest.approx(0.4, abs=1e-4)


def test_an_attack_of_one_seed_adds_the_variance_of_its_points():
    several = sure(-0.01, 0.01, signed=True)
    [single] = [Measured(0.0, 0.04, 1e12, signed=True)]
    low, high = mean_interval([several, [single]])
    seeds = 0.01**2 * 2 / 2 / 4
    points = 0.04 / 4
    degrees = (seeds + points) ** 2 / seeds**2
    half = t.ppf(0.975, degrees) * np.sqrt(seeds + points)
    assert (high - low) / 2 == pytest.approx(half)


def test_quantiles_are_those_of_scipy():
    assert t_quantile(float("inf")) == pytest.approx(Z)
    assert t_quantile(2.5) == pytest.approx(t.ppf(0.975, 2.5))


# ---- samples, and metrics without a formula


def test_the_interval_of_all_controls_and_that_of_the_matched_are_of_those_alone():
    rng = np.random.default_rng(0)
    matched = np.arange(20) < 10
    positive, negative = rng.normal(1, 1, 8), rng.normal(0, 1, 20)
    sample = Sample(positive, negative, matched)
    found = Sample.intervals([[sample, sample]])
    one = auroc_measured((positive, negative))
    other = auroc_measured((positive, negative[matched]))
    assert found == {
        "auroc": mean_interval([[one, one]]),
        "auroc_matched": mean_interval([[other, other]]),
    }


class Coin:
    """A scene whose metrics are the share of heads and of tails."""

    def __init__(self, heads: int, n: int) -> None:
        self.rate = heads / n
        self.n = n

    def measured(self, variances):
        both = (self.rate, 1 - self.rate)
        return [
            Measured(value, float(variance), self.n)
            for value, variance in zip(both, variances, strict=True)
        ]

    def resampled(self, size, rng):
        heads = rng.binomial(self.n, self.rate, size) / self.n
        return np.stack([heads, 1 - heads])


def test_a_bootstrap_of_a_rate_is_its_closed_form():
    heads, tails = bootstrap_intervals([[Coin(60, 100)]], draws=20000)
    assert heads == pytest.approx(wilson([0.6], 100), abs=0.003)
    assert tails == pytest.approx((1 - heads[1], 1 - heads[0]))
    assert bootstrap_intervals([[Coin(60, 100)]]) == bootstrap_intervals(
        [[Coin(60, 100)]]
    )


# ---- coverage


@pytest.mark.parametrize("metric", DRAWN)
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_intervals_cover_the_truth_as_often_as_they_say(metric, seeds):
    found = coverage(Setting(metric, 0.9, 0.3, seeds), runs=400)
    assert found.share > 0.92
