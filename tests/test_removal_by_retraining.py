"""Removal by retraining against heads solved anew, and against victims trained one by one."""

from dataclasses import replace

import pytest
import torch
from conftest import random_data
from test_oracles_removal import L2, votes_without
from torch import Tensor

from defenses.detectors.removal_by_retraining import RemovalByRetraining
from defenses.kit.features import narrowed
from defenses.kit.proponents import REPEATS, random_masks
from defenses.kit.refitted_head import lead
from poisonbench.contracts.values import Evidence
from poisonbench.errors import ConfigError
from poisonbench.models import predict
from poisonbench.objectives import margins
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train

N, M = 40, 7


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    """A perceptron in full batches, so that a run without rows is the run on the others."""
    recipe = Recipe("mlp", epochs=3, batch_size=N, checkpoints=1)
    trace = train(random_data(N, classes=3), recipe, seed=0)
    g = generator(0, "influence")
    influence = torch.randn((M, N), generator=g, dtype=torch.float64)
    return Evidence(trace, random_data(M, classes=3, seed=1), influence)


def influence_of(evidence: Evidence) -> Tensor:
    assert evidence.influence is not None
    return evidence.influence


def own_rows(evidence: Evidence, j: int) -> list[int]:
    labels = evidence.trace.train.y.tolist()
    return [i for i in range(N) if labels[i] == int(evidence.test.y[j])]


def leaving(evidence: Evidence, j: int, k: int) -> list[int]:
    helps = influence_of(evidence)[j]
    return sorted(own_rows(evidence, j), key=lambda i: -float(helps[i]))[:k]


@pytest.mark.parametrize("layer", ["inner", "penultimate"])
def test_by_the_head_it_is_the_head_solved_anew_without_the_rows(
    layer, evidence: Evidence
) -> None:
    share = 0.3
    scores = RemovalByRetraining(1, share, layer=layer, l2=L2)(evidence)
    trace, test = evidence.trace, evidence.test
    whole = votes_without([], trace, test, layer)
    for j in range(M):
        own = own_rows(evidence, j)
        k = round(share * len(own))
        without = votes_without(leaving(evidence, j, k), trace, test, layer)
        # the first-order fall of one row: the slope of its weight, here by a difference
        step = 1e-5
        slopes = [
            (whole[j] - weighed(i, 1 - step, evidence, layer)[j]) / step for i in own
        ]
        average = whole[j] - k * torch.stack(slopes).mean(0)
        expected = lead(average, test.y[j])[0] - lead(without[j], test.y[j])[0]
        assert float(scores[j]) == pytest.approx(float(expected), abs=1e-4)


def weighed(row: int, weight: float, evidence: Evidence, layer) -> Tensor:
    """Votes of the head with a weight on one row, (m, C)."""
    from test_oracles_removal import design

    a, t, labels = design(evidence.trace, evidence.test, layer)
    w = torch.ones(N, dtype=a.dtype)
    w[row] = weight
    ridge = L2 * N * torch.eye(a.shape[1], dtype=a.dtype)
    return t @ torch.linalg.solve(
        a.T @ (w[:, None] * a) + ridge, a.T @ (w[:, None] * labels)
    )


def test_by_retraining_it_is_the_victims_trained_one_by_one(evidence: Evidence) -> None:
    k = 4
    scores = RemovalByRetraining(k, 0.0, "retraining")(evidence)
    trace, test = evidence.trace, evidence.test
    assert trace.recipe is not None

    def margin(keep: Tensor, j: int) -> float:
        run = train(trace.train.take(keep), trace.recipe, trace.seed)
        return float(margins(predict(run.model(), test.x), test.y)[j])

    for j in range(M):
        keep = torch.ones(N, dtype=torch.bool)
        keep[leaving(evidence, j, k)] = False
        own = torch.tensor(own_rows(evidence, j))
        random = [margin(mask, j) for mask in random_masks(trace, own, k)]
        expected = sum(random) / REPEATS - margin(keep, j)
        assert float(scores[j]) == pytest.approx(expected, abs=1e-6)


def test_random_removals_take_rows_of_the_label_alone_and_differ(
    evidence: Evidence,
) -> None:
    own = torch.tensor(own_rows(evidence, 0))
    masks = random_masks(evidence.trace, own, 5)
    gone = [set((~mask).nonzero().squeeze(1).tolist()) for mask in masks]
    assert all(len(rows) == 5 and rows <= set(own.tolist()) for rows in gone)
    assert len({tuple(sorted(rows)) for rows in gone}) == REPEATS


def test_removal_of_more_rows_than_there_are_takes_all_of_the_label(
    evidence: Evidence,
) -> None:
    every = RemovalByRetraining(10 * N, 0.0)(evidence)
    assert torch.equal(every, RemovalByRetraining(1, 1.0)(evidence))


def test_a_label_without_rows_and_influence_that_is_not_finite_have_no_score(
    evidence: Evidence,
) -> None:
    influence = influence_of(evidence).clone()
    influence[1] = torch.nan
    test = evidence.test.relabel(torch.full_like(evidence.test.y, 1))
    rows = evidence.trace.train.y != 1
    trace = replace(evidence.trace, train=evidence.trace.train.take(rows))
    gone = replace(evidence, trace=trace, test=test, influence=influence[:, rows])
    with pytest.warns(UserWarning, match="not finite"):
        assert RemovalByRetraining()(gone).isnan().all()
    with pytest.warns(UserWarning, match="not finite"):
        scores = RemovalByRetraining()(replace(evidence, influence=influence))
    assert scores.isnan().tolist() == [j == 1 for j in range(M)]


def test_a_run_that_cannot_be_made_again_is_refused(evidence: Evidence) -> None:
    once = replace(evidence, trace=replace(evidence.trace, recipe=None))
    detector = RemovalByRetraining(by="retraining")
    with pytest.raises(ConfigError, match="needs a way to train again"):
        detector(once)
    assert "retraining" in detector.uses


def test_projections_keep_products_on_the_mean_and_few_features_as_they_are() -> None:
    g = generator(0, "features")
    rows = torch.randn((30, 900), generator=g, dtype=torch.float64)
    points = torch.randn((9, 900), generator=g, dtype=torch.float64)
    assert narrowed(rows, points, 900) == (rows, points)
    few, asked = narrowed(rows, points, 400)
    assert few.shape == (30, 400)
    assert torch.allclose(few.mean(0), torch.zeros(400).double(), atol=1e-12)
    middle = rows.mean(0)
    true = (points - middle).norm(dim=1)
    assert ((asked.norm(dim=1) / true - 1).abs() < 0.2).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RemovalByRetraining(0), "k must be at least 1, got 0"),
        (lambda: RemovalByRetraining(share=1.5), "share must lie in"),
        (lambda: RemovalByRetraining(by="steps"), "by must be one of head, retraining"),
        (lambda: RemovalByRetraining(layer="first"), "layer must be one of"),
        (lambda: RemovalByRetraining(l2=0.0), "l2 must be positive"),
    ],
)
def test_a_field_out_of_range_is_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
