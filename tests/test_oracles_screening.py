"""Screened scores: exact where they are given, the largest among them, estimates within bounds."""

import dataclasses

import pytest
import torch
from conftest import random_data
from torch import Tensor

from estimators.gas import GAS
from estimators.kit import checkpoints
from estimators.screening.screened import Screened
from estimators.tracin import TracIn
from poisonbench.device.precision import asked
from poisonbench.gradients import Form, gradient_norms
from poisonbench.gradients.sketch import Sketch
from poisonbench.notes import Notes, collecting
from poisonbench.training import Recipe, Trace, train

EXACT = {"gas": GAS(), "tracin": TracIn()}
of = pytest.mark.parametrize("of", EXACT)


@pytest.fixture(scope="module")
def trace() -> Trace:
    recipe = Recipe("mlp", epochs=4, batch_size=16, lr=0.05, checkpoints=3)
    return train(random_data(400, (12,), 4), recipe, 0)


def scored(estimator: Screened, trace: Trace, m: int = 7) -> tuple[Tensor, Notes]:
    with collecting() as told:
        scores = estimator.fit(trace)(random_data(m, (12,), 4, seed=1))
    return scores, told


def exact(of: str, trace: Trace, m: int = 7) -> Tensor:
    return EXACT[of].fit(trace)(random_data(m, (12,), 4, seed=1))


@of
def test_what_is_given_is_exact_and_the_largest_are_among_it(of: str, trace: Trace):
    scores, told = scored(Screened(of, top=5, dimensions=512), trace)
    want = exact(of, trace)
    given = ~scores.isnan()
    torch.testing.assert_close(scores[given], want[given], rtol=1e-8, atol=1e-12)
    largest = want.topk(5).indices
    assert bool(given.gather(1, largest).all())
    assert 10 <= float(told.figures["screened_rows"]) < 100
    assert told.figures["screened_rows"] == pytest.approx(
        float(given.sum(1).double().mean())
    )
    assert told.figures["screened_complete"] == 1.0


@of
def test_a_poor_projection_costs_rows_and_no_recall(of: str, trace: Trace):
    counts = []
    for d in (16, 128, 1024):
        scores, _ = scored(Screened(of, top=5, dimensions=d, most=400), trace)
        given = ~scores.isnan()
        assert bool(given.gather(1, exact(of, trace).topk(5).indices).all())
        counts.append(int(given.sum()))
    assert counts[0] > counts[1] > counts[2]


def test_what_had_to_be_left_out_is_told(trace: Trace):
    scores, told = scored(Screened(top=5, dimensions=16, most=3), trace)
    assert told.figures["screened_complete"] == 0.0
    assert bool(((~scores.isnan()).sum(1) == 13).all())
    _, none = scored(Screened(top=5, dimensions=16, most=0), trace)
    assert none.figures["screened_rows"] == 10.0


def test_of_the_rows_that_may_be_computed_the_highest_are(trace: Trace):
    """With bounds that are near the scores, the rows taken are those of largest score."""
    sharp = Screened(top=3, dimensions=4096, width=1e-3, most=0)
    few, _ = scored(sharp, trace)
    want = exact("gas", trace)
    given = ~few.isnan()
    ranks = want.argsort(1, descending=True).argsort(1)
    assert bool((ranks[given] < 12).all())


@of
def test_estimates_are_off_by_their_standard_errors(of: str, trace: Trace):
    """Over 40 projections the mean square of the errors in these units is near 1."""
    test = random_data(7, (12,), 4, seed=1)
    want = exact(of, trace)
    squares = []
    means = []
    for seed in range(40):
        screen = Screened(of, dimensions=64, seed=seed).screen(trace)
        sums, errors = screen.estimates(test, 400)
        off = (sums - want) / errors
        squares.append(float(off.square().mean()))
        means.append(float(off.mean()))
    assert 0.8 < sum(squares) / 40 < 1.1
    assert abs(sum(means) / 40) < 0.05


def test_norms_beside_a_projection_are_those_of_the_gradients(trace: Trace):
    model = trace.model()
    sketch = Sketch.of(model, trace.train, 32, 0, Form("margin"))
    rows, norms = sketch.with_norms(trace.train)
    assert torch.equal(rows, sketch(trace.train))
    wanted = gradient_norms(model, trace.train, Form("margin"))
    torch.testing.assert_close(norms, wanted)


def test_a_checkpoint_of_rate_zero_is_not_projected(trace: Trace):
    last = dataclasses.replace(trace.checkpoints[-1], lr=0.0)
    silent = dataclasses.replace(trace, checkpoints=(*trace.checkpoints[:-1], last))
    assert len(Screened().screen(silent).checkpoints) == 2
    scores, _ = scored(Screened(top=5, dimensions=256), silent)
    given = ~scores.isnan()
    torch.testing.assert_close(scores[given], exact("gas", silent)[given])


@of
def test_the_precision_is_that_of_estimates_and_products(
    of: str, trace: Trace, monkeypatch: pytest.MonkeyPatch
):
    found: list[str] = []
    products = checkpoints.dot_products
    sketched = Sketch.with_norms

    def told(*arguments: object) -> Tensor:
        found.append(asked())
        return products(*arguments)

    def told_too(*arguments: object) -> tuple[Tensor, Tensor]:
        found.append(asked())
        return sketched(*arguments)

    monkeypatch.setattr(checkpoints, "dot_products", told)
    monkeypatch.setattr(Sketch, "with_norms", told_too)
    for precision, wanted in (("full", "ieee"), ("tf32", "tf32")):
        found.clear()
        scored(Screened(of, top=5, dimensions=64, precision=precision), trace)
        assert set(found) == {wanted}
        assert len(found) >= 3 * 3
        exact = Screened(of, precision=precision).exact
        assert exact == dataclasses.replace(EXACT[of], precision=precision)
    assert asked() == "ieee"


def test_a_point_has_the_scores_that_it_has_alone(trace: Trace):
    estimator = Screened(top=5, dimensions=64)
    scorer = estimator.fit(trace)
    test = random_data(7, (12,), 4, seed=1)
    together = scorer(test)
    alone = [scorer(test.take(torch.tensor([j]))) for j in range(7)]
    torch.testing.assert_close(
        torch.cat(alone), together, rtol=1e-8, atol=1e-12, equal_nan=True
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"of": "hydra"}, "of must be one of gas, tracin, got 'hydra'"),
        ({"top": 0}, "top must be at least 1, got 0"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"width": 0.0}, "width"),
        ({"most": -1}, "most must be at least 0, got -1"),
        ({"precision": "bf16"}, "precision must be one of full, tf32, got 'bf16'"),
        ({"precision": "half"}, "precision must be one of full, tf32, got 'half'"),
    ],
)
def test_a_field_out_of_range_is_refused(fields: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Screened(**fields)
