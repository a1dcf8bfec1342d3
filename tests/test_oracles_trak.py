"""TRAK and the random projections that it rests on, from their definitions."""

import dataclasses
import warnings

import pytest
import torch
from conftest import random_data
from test_text import model_of, sentences
from torch import Tensor, nn

from estimators.trak import TRAK
from poisonbench.data import Dataset, Layout
from poisonbench.errors import ConfigError
from poisonbench.gradients import Form, Sketch, dot_products
from poisonbench.gradients.curvature.layout import layout
from poisonbench.models import build
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Trace, train

SHAPE = (7,)
CLASSES = 5  # 40 parameters of the linear model
MARGIN = Form("margin")
RECIPE = Recipe("linear", epochs=2, batch_size=4, lr=0.3, checkpoints=3)
FORMULA = [
    TRAK(dimensions=12, ridge=0.0),
    TRAK(dimensions=64),
    TRAK(dimensions=12, models=3, source="checkpoints"),
    TRAK(dimensions=12, models=2, fraction=0.7, seed=3),
]


def probability(model: nn.Module, data: Dataset) -> Tensor:
    return model(data.x).softmax(1)[torch.arange(len(data)), data.y]


def gradients(model: nn.Module, data: Dataset) -> Tensor:
    """Of log(p / (1 - p)), (n, p), one instance at a time by autograd."""
    found = []
    for i in range(len(data)):
        p = probability(model, data.take(torch.tensor([i])))
        output = (p / (1 - p)).log().sum()
        parts = torch.autograd.grad(output, list(model.parameters()))
        found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found)


def matrix_of(sketch: Sketch, data: Dataset) -> Tensor:
    """The projection as a matrix (p, k)."""
    index = layout(sketch.model, sketch.how, data, None)
    matrix = torch.zeros(sketch.how.size, sketch.k, dtype=torch.float64)
    for entries, folding in zip(index, sketch.layers, strict=True):
        matrix[entries, folding.slot % sketch.k] = folding.sign
    return matrix


def trace() -> Trace:
    return train(random_data(30, SHAPE, CLASSES), RECIPE, 0)


def models_of(run: Trace, estimator: TRAK) -> list[nn.Module]:
    if estimator.models == 1:
        return [run.model()]
    if estimator.source == "checkpoints":
        return [run.model(k) for k in range(len(run.checkpoints))]
    found = []
    masks = estimator.masks(len(run.train), run.seed)
    for k, mask in enumerate(masks):
        seed = derive(run.seed, "trak", estimator.seed, k)
        found.append(train(run.train.take(mask), RECIPE, seed).model())
    return found


@pytest.mark.parametrize("estimator", FORMULA, ids=repr)
def test_scores_are_those_of_the_formula_with_the_matrix_written_out(estimator: TRAK):
    run = trace()
    test = random_data(4, SHAPE, CLASSES, seed=9)
    k = estimator.dimensions
    products = torch.zeros(4, 30, dtype=torch.float64)
    doubt = torch.zeros(30, dtype=torch.float64)
    models = models_of(run, estimator)
    for number, model in enumerate(models):
        seed = derive(estimator.seed, "trak", number)
        sketch = Sketch.of(model, run.train, k, seed, MARGIN)
        matrix = matrix_of(sketch, run.train)
        features = gradients(model, run.train) @ matrix
        gram = features.T @ features
        gram += estimator.ridge * gram.trace() / k * torch.eye(k, dtype=torch.float64)
        points = gradients(model, test) @ matrix
        products += points @ gram.inverse() @ features.T / len(models)
        doubt += (1 - probability(model, run.train).detach()) / len(models)
    got = estimator.fit(run)(test)
    torch.testing.assert_close(got, products * doubt, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_projection_is_a_matrix_with_one_entry_of_size_one_for_each_parameter(
    name: str,
):
    shape = (1, 8, 8)
    model = build(name, Layout(shape, 3, "image"), 0).double().eval()
    data = random_data(5, shape, 3)
    sketch = Sketch.of(model, data, 50, 1, MARGIN)
    matrix = matrix_of(sketch, data)
    assert bool((matrix.abs().sum(1) == 1).all())
    assert set(matrix.unique().tolist()) == {-1.0, 0.0, 1.0}
    slots = [folding.slot for folding in sketch.layers]
    assert all(len(slot.unique()) == len(slot) for slot in slots)
    want = gradients(model, data) @ matrix
    torch.testing.assert_close(sketch(data), want, rtol=1e-8, atol=1e-10)
    assert sketch(data.take(torch.tensor([], dtype=torch.int64))).shape == (0, 50)


def test_products_of_projections_are_unbiased_with_the_variance_of_gaussian_ones():
    shape = (1, 8, 8)
    model = build("mlp", Layout(shape, 3, "image"), 0).double().eval()
    data = random_data(3, shape, 3)
    exact = dot_products(model, data, data, MARGIN)
    k = 40
    found = []
    for seed in range(400):
        features = Sketch.of(model, data, k, seed, MARGIN)(data)
        found.append(features @ features.T)
    products = torch.stack(found)
    squares = exact.diag()
    variance = (squares[:, None] * squares + exact**2) / k
    error = (variance / len(products)).sqrt()
    assert bool(((products.mean(0) - exact).abs() < 4.5 * error).all())
    assert bool((products.var(0) < 1.5 * variance).all())


@pytest.mark.parametrize("vocabulary", [400, 20])
def test_tables_of_words_are_projected_by_the_words_that_are_looked_up(vocabulary: int):
    data = sentences(6, 1, vocabulary=vocabulary)
    model = model_of("text-cnn", data)
    sketch = Sketch.of(model, data, 30, 0, MARGIN)
    want = gradients(model, data) @ matrix_of(sketch, data)
    torch.testing.assert_close(sketch(data), want, rtol=1e-8, atol=1e-10)


def test_without_a_ridge_the_shares_of_instances_in_their_own_margins_sum_to_the_rank():
    """They are the leverages of the projected gradients, which lie in [0, 1]."""
    run = trace()
    own = TRAK(dimensions=12, ridge=0.0).self_influence(run)
    leverages = own / (1 - probability(run.model(), run.train).detach())
    assert float(leverages.sum()) == pytest.approx(12, abs=1e-8)
    assert bool(((leverages > 0) & (leverages < 1)).all())


def test_a_large_ridge_leaves_products_of_gradients():
    run = trace()
    test = random_data(4, SHAPE, CLASSES, seed=9)
    sketch = Sketch.of(run.model(), run.train, 64, derive(0, "trak", 0), MARGIN)
    features = sketch(run.train)
    mean = float((features**2).sum()) / 64
    doubt = 1 - probability(run.model(), run.train).detach()
    want = sketch(test) @ features.T * doubt / mean
    got = TRAK(dimensions=64, ridge=1e7).fit(run)(test)
    torch.testing.assert_close(got * 1e7, want, rtol=1e-4, atol=1e-4)


def test_what_a_run_cannot_give_is_refused():
    run = trace()
    with pytest.raises(ConfigError, match="on 5 checkpoints, and the run kept 3"):
        TRAK(models=5, source="checkpoints").fit(run)
    with pytest.raises(ValueError, match="no inverse at ridge 0"):
        TRAK(dimensions=64, ridge=0.0).fit(run)
    smoothed = train(run.train, dataclasses.replace(RECIPE, label_smoothing=0.1), 0)
    with pytest.raises(ConfigError, match="TRAK rests on cross entropy"):
        TRAK().fit(smoothed)
    with pytest.raises(ValueError, match="rows of a subset must lie in"):
        TRAK(models=2, fraction=0.001).fit(run)


def test_it_asks_of_a_run_no_more_than_its_models_come_from():
    assert TRAK().needs == ("final model",)
    assert TRAK(models=2).needs == ("retraining",)
    assert TRAK(models=2, source="checkpoints").needs == ("checkpoints",)
    assert TRAK(layers="last").needs == ("final model", "head")


def test_a_model_that_diverged_is_left_out_and_all_of_them_are_refused():
    wild = dataclasses.replace(RECIPE, model="mlp", lr=1e30, batch_size=2)
    run = dataclasses.replace(trace(), recipe=wild)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="all of 2 models diverged"):
            TRAK(models=2).fit(run)


def test_of_a_run_with_more_checkpoints_the_last_checkpoints_are_taken():
    run = trace()
    late = dataclasses.replace(run, checkpoints=run.checkpoints[1:])
    estimator = TRAK(dimensions=12, models=2, source="checkpoints")
    test = random_data(4, SHAPE, CLASSES, seed=9)
    assert torch.equal(estimator.fit(run)(test), estimator.fit(late)(test))


def test_each_layer_has_signs_of_its_own():
    data = random_data(3, (1, 8, 8), 3)
    model = build("mlp", data.layout, 0).double().eval()
    layers = Sketch.of(model, data, 50, 1, MARGIN).layers
    first = layers[0].sign
    second = layers[1].sign
    size = min(len(first), len(second))
    assert not torch.equal(first[:size], second[:size])
