"""Every estimator on sentences of unequal lengths, against brute force in float64."""

from dataclasses import replace

import pytest
import torch
from test_oracles_curvature import dense_gauss_newton, dense_hessian
from test_oracles_hydra import autograd_scores, forward_recursion, losses_at, unrolled
from test_oracles_shapley import chance, enumerated, retrained, shapley_weight
from test_oracles_text import wanted_products
from test_text import CLASSES, sentences
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.downsampling import Downsampling
from estimators.gas import GAS
from estimators.group import GroupInfluence
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.shapley.nearest_neighbours import knn_shapley
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from poisonbench.data import PAD, Dataset, join
from poisonbench.gradients import Form, plan
from poisonbench.models import build, predict
from poisonbench.models.text import Block
from poisonbench.notes import collecting
from poisonbench.training import Recipe, Start, replay, train, train_many
from poisonbench.training.trace import Trace

WORDS = 80  # large beside a sentence: gradients are held by the words that it has
NAMES = ["text-cnn", "transformer", "test_oracles_text_estimators:Little"]
SMALL = NAMES[2]
models = pytest.mark.parametrize("model", NAMES)


class LittleFeatures(nn.Module):
    """A block of attention, normalised, on vectors of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 2)
        self.block = Block(width=2, heads=2, hidden=3)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != PAD)[:, :, None].to(self.words.weight.dtype)
        words = self.block(self.words(ids), there) * there
        return words.sum(1) / there.sum(1)


class Little(nn.Module):
    """Few parameters, for matrices of all pairs of them."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.features = LittleFeatures()
        self.head = nn.Linear(2, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def run(model: str, n: int = 12, **changes: object) -> tuple[Trace, Dataset]:
    """A run of a few steps on sentences of all lengths, and points to be scored."""
    recipe = Recipe(
        model=model,
        epochs=2,
        batch_size=5,
        lr=0.1,
        momentum=0.9,
        weight_decay=0.01,
        schedule="one-cycle",
        checkpoints=2,
    )
    data = sentences(n, 1, vocabulary=WORDS)
    trace = train(data, replace(recipe, **changes), 3)
    return trace, sentences(4, 2, vocabulary=WORDS)


def assert_scores(
    found: Tensor, wanted: Tensor, rtol: float = 1e-9, atol: float = 1e-12
) -> None:
    assert found.dtype == torch.float64
    assert float(wanted.abs().max()) > 1e-6
    torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


def at_checkpoints(trace: Trace, test: Dataset, form: Form) -> Tensor:
    """Products at every checkpoint by autograd, weighted by the learning rates."""
    parts = []
    for k, checkpoint in enumerate(trace.checkpoints):
        products = wanted_products(trace.model(k), trace.train, test, form)
        parts.append(checkpoint.lr * products)
    return torch.stack(parts).sum(0)


@models
def test_tracin_at_checkpoints(model: str):
    trace, test = run(model)
    wanted = at_checkpoints(trace, test, Form())
    assert_scores(TracIn().fit(trace)(test), wanted.detach())
    last = at_checkpoints(trace, test, Form(layers="last"))
    assert_scores(TracIn(layers="last").fit(trace)(test), last.detach())


@models
def test_tracin_at_every_step(model: str):
    trace, test = run(model)
    wanted = torch.zeros(len(test), len(trace.train), dtype=torch.float64)
    for step in replay(trace):
        batch = trace.train.take(step.rows)
        products = wanted_products(step.model, batch, test, Form()).detach()
        wanted[:, step.rows] += step.lr / len(step.rows) * products
    assert_scores(TracIn(mode="steps").fit(trace)(test), wanted)


@models
@pytest.mark.parametrize("layerwise", [False, True])
def test_gas(model: str, layerwise: bool):
    trace, test = run(model)
    form = Form("margin", "layer" if layerwise else "all")
    wanted = at_checkpoints(trace, test, form).detach()
    assert_scores(GAS(layerwise).fit(trace)(test), wanted)


@models
def test_hydra_through_the_whole_run(model: str):
    trace, test = run(model)
    assert_scores(HyDRA(hessian=True).fit(trace)(test), autograd_scores(trace, test))


@models
@pytest.mark.parametrize("renormalize", [False, True])
def test_hydra_without_the_hessian(model: str, renormalize: bool):
    trace, test = run(model)
    wanted = forward_recursion(trace, test, False, renormalize)
    assert_scores(HyDRA(False, renormalize).fit(trace)(test), wanted)


def gradients_at_the_end(trace: Trace, data: Dataset) -> Tensor:
    """Loss gradients of the final model, (n, p)."""
    model = trace.model()
    rows = []
    for x, y in zip(data.x.split(1), data.y.split(1), strict=True):
        loss = F.cross_entropy(model(x), y)
        found = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(rows)


def curvature_at_the_end(trace: Trace, kind: str, data: Dataset) -> Tensor:
    dense = dense_hessian if kind == "hessian" else dense_gauss_newton
    return dense(trace.model(), data).detach()


def test_the_small_model_has_a_table_whose_gradients_are_held_by_its_words():
    trace, _ = run(SMALL)
    how = plan(trace.model(), "all", trace.train.x)
    assert not how.rest
    assert how.held < how.size


@pytest.mark.parametrize("solver", ["explicit", "cg"])
@pytest.mark.parametrize("curvature", ["hessian", "gauss-newton"])
def test_influence_functions(solver: str, curvature: str):
    trace, test = run(SMALL)
    damping = 1.0  # above the least eigenvalue of the Hessian
    h = curvature_at_the_end(trace, curvature, trace.train)
    h += (0.01 + damping) * torch.eye(len(h), dtype=torch.float64)
    rows = gradients_at_the_end(trace, trace.train)
    columns = gradients_at_the_end(trace, test)
    wanted = columns @ torch.linalg.solve(h, rows.T) / len(rows)
    method = InfluenceFunctions(solver, curvature, damping=damping, tolerance=1e-12)
    assert_scores(method.fit(trace)(test), wanted, rtol=1e-8, atol=1e-11)


@models
def test_influence_functions_by_ekfac_of_one_eigenvalue_are_products(model: str):
    """With damping far above all curvature, H is damping times the identity."""
    trace, test = run(model)
    rows = gradients_at_the_end(trace, trace.train)
    columns = gradients_at_the_end(trace, test)
    damping = 1e9
    wanted = columns @ rows.T / len(rows) / damping
    method = InfluenceFunctions("ekfac", damping=damping)
    found = method.fit(trace)(test)
    torch.testing.assert_close(found * damping, wanted * damping, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", ["first", "second", "newton"])
def test_group_influence(order: str):
    trace, test = run(SMALL)
    groups = torch.zeros(2, 12, dtype=torch.bool)
    groups[0, [1, 4, 5]] = True
    groups[1, [0, 11]] = True
    damping = 0.5
    h = curvature_at_the_end(trace, "gauss-newton", trace.train)
    h += (0.01 + damping) * torch.eye(len(h), dtype=torch.float64)
    columns = gradients_at_the_end(trace, test)
    wanted = []
    for group in groups:
        part = trace.train.take(group)
        own = curvature_at_the_end(trace, "gauss-newton", part) * len(part) / 12
        pull = gradients_at_the_end(trace, part).sum(0) / 12
        moved = torch.linalg.solve(h - own if order == "newton" else h, pull)
        if order == "second":
            moved = moved + torch.linalg.solve(h, own @ moved)
        wanted.append(columns @ moved)
    method = GroupInfluence(order, damping=damping, tolerance=1e-12)
    found = method.fit(trace, groups)(test)
    assert_scores(found, torch.stack(wanted, 1), rtol=1e-8, atol=1e-11)


@models
def test_representer_points(model: str):
    trace, test = run(model)
    method = RepresenterPoint(l2=1e-3)
    got = method.decompose(trace)
    net = trace.model()
    one = torch.ones(1, 1, dtype=torch.float64)
    found = method.fit(trace)(test)
    wanted = torch.zeros_like(found)
    for i, x in enumerate(trace.train.x.split(1)):
        own = torch.cat([net.features(x), one], 1).detach()
        p = (own @ got.weight.T).softmax(1)[0]
        alpha = (F.one_hot(trace.train.y[i], CLASSES) - p) / (2 * 1e-3 * 12)
        for j, point in enumerate(test.x.split(1)):
            other = torch.cat([net.features(point), one], 1).detach()
            wanted[j, i] = alpha[test.y[j]] * (own @ other.T)[0, 0]
    assert_scores(found, wanted, rtol=1e-8)


@models
@pytest.mark.parametrize("batches", ["own", "full"])
def test_many_models_are_those_trained_one_by_one(model: str, batches: str):
    data = sentences(14, 1, vocabulary=WORDS)
    trace, test = run(model)
    recipe = trace.recipe
    masks = torch.rand(3, 14, generator=torch.Generator().manual_seed(0)) < 0.7
    if batches == "full":
        masks[:] = True
    with collecting() as told:
        many = train_many(data, masks, recipe, [3, 4, 5], batches=batches)
    assert not told.figures
    for k, (mask, seed) in enumerate(zip(masks, many.seeds, strict=True)):
        wanted = train(data.take(mask), recipe, seed).model()
        for name, value in wanted.state_dict().items():
            found = many.state(k)[name]
            torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-10)
        logits = predict(wanted, test.x)
        torch.testing.assert_close(many.logits(test)[k], logits, rtol=1e-9, atol=1e-10)


def test_heads_on_frozen_features_that_are_as_wide_as_sentences_are_long():
    data = sentences(10, 1, length=64, vocabulary=WORDS)
    start = Start(build("transformer", data.layout, 7).double().state_dict())
    recipe = Recipe("transformer", 2, 4, lr=0.1, start=start)
    masks = torch.ones(2, 10, dtype=torch.bool)
    masks[1, 3] = False
    many = train_many(data, masks, recipe, [3, 4])
    for k, (mask, seed) in enumerate(zip(masks, many.seeds, strict=True)):
        wanted = train(data.take(mask), recipe, seed).model()
        logits = predict(wanted, data.x)
        torch.testing.assert_close(many.logits(data)[k], logits, rtol=1e-9, atol=1e-10)


@models
def test_leave_one_out(model: str):
    """Convention A: the same run, the loss of the instance multiplied by 0."""
    trace, test = run(model, n=6)
    method = LeaveOneOut(repeats=1, convention="A")
    found = method.fit(trace)(test)
    whole = torch.ones(6, dtype=torch.float64)
    with_all = losses_at(trace, unrolled(trace, whole), test)
    wanted = []
    for i in range(6):
        weights = whole.clone()
        weights[i] = 0.0
        wanted.append(losses_at(trace, unrolled(trace, weights), test) - with_all)
    assert_scores(found, torch.stack(wanted, 1).detach(), rtol=1e-7, atol=1e-11)


@models
def test_downsampling(model: str, monkeypatch: pytest.MonkeyPatch):
    """Mean loss of the models without an instance, minus that of those with it."""
    trace, test = run(model, n=6)
    asked = {}

    def remembered(data: Dataset, masks: Tensor, recipe: Recipe, seeds, **more):
        asked["seeds"] = seeds
        return train_many(data, masks, recipe, seeds, **more)

    monkeypatch.setattr("estimators.downsampling.train_many", remembered)
    method = Downsampling(models=10)
    found = method.fit(trace)(test)
    masks = method.masks(6, trace.seed)
    losses = []
    for mask, seed in zip(masks, asked["seeds"], strict=True):
        net = train(trace.train.take(mask), trace.recipe, seed).model()
        losses.append(F.cross_entropy(predict(net, test.x), test.y, reduction="none"))
    losses = torch.stack(losses)
    wanted = [losses[~own].mean(0) - losses[own].mean(0) for own in masks.T]
    assert_scores(found, torch.stack(wanted, 1), rtol=1e-7, atol=1e-11)


def test_shapley_by_retraining_on_all_subsets():
    trace, test = run(SMALL, n=4)
    table = retrained(trace, test, "loss", chance("loss", len(test)))
    method = Shapley(permutations=300, precision=0.0, stride=1, measure="loss")
    with collecting() as told:
        found = method.fit(trace)(test)
    errors = told.arrays["standard_error"]
    wanted = enumerated(table, shapley_weight)
    assert bool(((found - wanted).abs() <= 4 * errors + 1e-10).all())
    total = table[-1] - table[0]
    torch.testing.assert_close(found.sum(1), total, rtol=0, atol=1e-10)


@models
def test_shapley_of_neighbours_is_that_of_the_features(model: str):
    trace, test = run(model)
    net = trace.model()
    features = [predict(net.features, part.x) for part in (trace.train, test)]
    wanted = knn_shapley(features[0], trace.train.y, features[1], test.y, 3)
    found = Shapley("knn", neighbours=3).fit(trace)(test)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


SCORED = [
    TracIn(),
    TracIn(mode="steps"),
    GAS(),
    GAS(layerwise=True),
    HyDRA(),
    HyDRA(hessian=True),
    InfluenceFunctions(damping=0.5, tolerance=1e-12),
    InfluenceFunctions("ekfac", damping=0.5),
    RepresenterPoint(),
]


@pytest.mark.parametrize("estimator", SCORED, ids=repr)
@pytest.mark.parametrize("model", ["text-cnn", SMALL])
def test_more_padding_changes_no_score(model: str, estimator: object):
    """The same run and points with twice the length of a sentence."""
    trace, test = run(model, batch_size=12, epochs=2)
    wide = []
    for data in (trace.train, test):
        x = F.pad(data.x, (0, data.x.shape[1]), value=PAD)
        wide.append(data.rows(x, data.y))
    padded = train(wide[0], trace.recipe, trace.seed)
    found = estimator.fit(padded)(wide[1])
    wanted = estimator.fit(trace)(test)
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("estimator", SCORED, ids=repr)
def test_an_instance_helps_a_point_that_is_its_copy(estimator: object):
    trace, _ = run(SMALL, epochs=6)
    scores = estimator.fit(trace)(join([trace.train]))
    assert float(scores.diag().mean()) > float(scores.mean())
    assert float(scores.diag().mean()) > 0
