"""The linear datamodeling score from its definition."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from estimators.kit.retraining import random_subsets
from experiments.bench.lds import datamodeling_scores, interval


def test_the_score_is_the_rank_correlation_of_each_point_over_the_subsets():
    g = torch.Generator().manual_seed(0)
    influence = torch.randn(3, 20, generator=g)
    masks = random_subsets(12, 20, 10, g)
    margins = torch.randn(12, 3, generator=g)
    margins[3] = margins[2]  # ties
    got = datamodeling_scores(influence, masks, margins)
    for j in range(3):
        sums = [float(influence[j][mask].double().sum()) for mask in masks]
        assert got[j] == pytest.approx(spearmanr(sums, margins[:, j]).statistic)


def test_margins_that_are_the_sums_score_one_and_their_opposites_minus_one():
    g = torch.Generator().manual_seed(1)
    influence = torch.randn(2, 20, generator=g)
    masks = random_subsets(12, 20, 10, g)
    sums = masks.float() @ influence.T
    np.testing.assert_allclose(datamodeling_scores(influence, masks, sums.exp()), 1.0)
    np.testing.assert_allclose(datamodeling_scores(-influence, masks, sums.exp()), -1.0)


def test_every_subset_has_its_size():
    masks = random_subsets(6, 11, 5, torch.Generator().manual_seed(0))
    assert masks.shape == (6, 11)
    assert (masks.sum(1) == 5).all()
    assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_the_interval_is_the_mean_and_two_standard_errors():
    values = np.array([0.0, 0.2, 0.4, np.nan])
    half = 1.96 * 0.2 / 3**0.5
    assert interval(values) == f"0.200 [{0.2 - half:.3f}, {0.2 + half:.3f}]"
