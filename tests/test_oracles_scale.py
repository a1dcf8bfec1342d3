"""Qn and MAD against brute force, statsmodels, scipy and the properties that define them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation
from statsmodels.robust.scale import qn_scale
from torch import Tensor

from defenses.kit import scale
from defenses.kit.scale import QN_FACTOR, mad, median, qn
from poisonbench.seeding import generator

values64 = st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=60)
values32 = st.lists(st.floats(-1e9, 1e9, width=32), min_size=2, max_size=60)
tied = st.lists(st.integers(-3, 3), min_size=2, max_size=60)


def rank(n: int) -> int:
    h = n // 2 + 1
    return h * (h - 1) // 2


def brute_force(x: Tensor) -> Tensor:
    """From the definition: all differences in the dtype of x, sorted."""
    i, j = torch.triu_indices(len(x), len(x), 1)
    return QN_FACTOR * (x[i] - x[j]).abs().sort().values[rank(len(x)) - 1]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed, "normal"), dtype=torch.float64)


@given(values64)
@settings(deadline=None)
def test_qn_is_the_order_statistic_of_all_differences(values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(qn(x), brute_force(x))


@given(values32)
@settings(deadline=None)
def test_qn_in_single_precision_is_the_order_statistic_as_it_rounds(
    values: list[float],
) -> None:
    x = torch.tensor(values, dtype=torch.float32)
    assert torch.equal(qn(x), brute_force(x))


@given(tied)
@settings(deadline=None)
def test_qn_with_ties_is_the_order_statistic(values: list[int]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(qn(x), brute_force(x))


@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 101, 1000, 2001])
def test_qn_is_that_of_statsmodels(n: int) -> None:
    for x in (
        normal(n, seed=n),
        normal(n, seed=n).exp(),
        normal(n, seed=n).mul(4).round(),
    ):
        assert float(qn(x)) == pytest.approx(qn_scale(x.numpy()), rel=1e-12)


@given(
    tied, st.integers(-20, 20), st.sampled_from([1.0, -1.0]), st.integers(-1000, 1000)
)
@settings(deadline=None)
def test_qn_is_affine_equivariant(
    values: list[int], power: int, sign: float, shift: int
) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    a = sign * 2.0**power  # exact in floating point
    assert torch.equal(qn(a * x + shift), abs(a) * qn(x))
    assert torch.equal(mad(a * x + shift), abs(a) * mad(x))


@pytest.mark.parametrize("n", [10, 11, 200, 201])
def test_qn_stands_nearly_half_of_the_values_anywhere(n: int) -> None:
    good = normal(n // 2 + 1)
    bad = 1e12 * (1 + torch.arange(n - len(good), dtype=torch.float64))
    assert float(qn(torch.cat([good, bad]))) <= QN_FACTOR * float(
        good.max() - good.min()
    )


def test_qn_at_50000_is_one_for_the_normal_distribution_and_the_right_order_statistic() -> (
    None
):
    n = 50_000
    x = normal(n).sort().values
    result = float(qn(x[torch.randperm(n, generator=generator(1, "order"))]))
    assert result == pytest.approx(
        1, abs=0.02
    )  # the standard error is 1 / sqrt(2 * .82 n) = .0035
    a, d = x.numpy(), result / QN_FACTOR

    def pairs(t: float, side: str) -> int:
        return int(
            (
                np.searchsorted(a, a + t, side=side).astype(np.int64) - 1 - np.arange(n)
            ).sum()
        )

    assert pairs(d * (1 + 1e-12), "right") >= rank(n) > pairs(d * (1 - 1e-12), "left")


def test_a_batch_of_rows_is_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(3, 4, 57)
    for function in (qn, mad, median):
        rows = torch.stack([torch.stack([function(r) for r in part]) for part in x])
        assert torch.equal(function(x), rows)
    monkeypatch.setattr(scale, "_BLOCK", {"cpu": 100})
    assert torch.equal(
        qn(x), torch.stack([torch.stack([qn(r) for r in part]) for part in x])
    )


def test_qn_leaves_its_argument_alone() -> None:
    x = normal(5, 30)
    before = x.clone()
    qn(x)
    assert torch.equal(x, before)


@given(values64)
@settings(deadline=None)
def test_mad_is_that_of_scipy(values: list[float]) -> None:
    expected = median_abs_deviation(np.array(values), scale="normal")
    assert float(mad(torch.tensor(values, dtype=torch.float64))) == pytest.approx(
        expected, rel=1e-8, abs=1e-12
    )


def test_scale_is_zero_when_more_than_half_of_the_values_tie() -> None:
    x = torch.cat([torch.zeros(51), normal(49).float()])
    assert qn(x) == 0
    assert mad(x) == 0


def test_qn_refuses_one_value_and_integers() -> None:
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        qn(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"float32 and float64, got torch.int64"):
        qn(torch.arange(5))
