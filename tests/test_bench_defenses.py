"""The benchmark of defenses: its exponent, and what it measures."""

import math

import numpy as np
import pytest
from scipy import stats

from defenses import DETECTORS, FILTERS
from experiments.bench.defended.growth import Measured, bench, contestants, exponent


def test_the_exponent_of_a_power_is_its_exponent() -> None:
    sizes = [100, 200, 400, 800]
    low, middle, high = exponent(sizes, [3.0 * n**1.5 for n in sizes])
    assert middle == pytest.approx(1.5)
    assert high - low < 1e-6
    assert exponent([1, 2], [1.0, 4.0]) == (-math.inf, pytest.approx(2.0), math.inf)


def test_the_interval_of_the_exponent_is_that_of_a_regression() -> None:
    sizes = [100, 100, 200, 200, 400, 400]
    seconds = [1.0, 1.2, 2.3, 1.9, 4.4, 3.6]
    low, middle, high = exponent(sizes, seconds)
    found = stats.linregress(np.log(sizes), np.log(seconds))
    reach = stats.t.ppf(0.975, 4) * found.stderr
    assert middle == pytest.approx(found.slope)
    assert (low, high) == pytest.approx((found.slope - reach, found.slope + reach))


def test_of_rounds_the_fastest_counts_and_the_largest_peak() -> None:
    its = Measured()
    for n, seconds, peak in ((10, 2.0, 5), (10, 1.0, 7), (20, 0.5, 1)):
        its.add(n, seconds, peak)
    assert its.fastest(10) == 1.0
    assert its.peaks == {10: 7, 20: 1}


def test_every_detector_and_filter_takes_part_and_is_measured() -> None:
    names = set(contestants())
    assert set(DETECTORS) <= names
    assert {f"filter: {name}" for name in FILTERS} <= names
    text = bench((240,), 24, 1, [])
    assert all(f"| {name} " in text for name in names)
