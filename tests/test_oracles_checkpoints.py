"""TracIn and GAS from their definitions.

On runs written by hand whose rates differ at every step.
"""

import dataclasses
from collections import OrderedDict

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.gas import GAS
from estimators.kit import checkpoints
from estimators.tracin import TracIn
from poisonbench.data import Dataset, Layout
from poisonbench.device.precision import asked
from poisonbench.gradients.planning import plan as planning
from poisonbench.models import build
from poisonbench.objectives import margins
from poisonbench.training import Checkpoint, Recipe, Trace, train

RATES = (0.3, 0.05, 0.7)
SHAPE = (5,)
CLASSES = 3


def run() -> Trace:
    """Three checkpoints that have nothing to do with each other, each with a rate of its own."""
    recipe = Recipe(
        "mlp", epochs=1, batch_size=4, momentum=0.0, weight_decay=0.0, checkpoints=3
    )
    trace = train(random_data(11, SHAPE, CLASSES), recipe, 0)
    checkpoints = []
    for k, rate in enumerate(RATES):
        model = build("mlp", Layout(SHAPE, CLASSES, "image"), 50 + k).double()
        checkpoints.append(Checkpoint(k + 1, rate, model.state_dict()))
    return dataclasses.replace(trace, checkpoints=tuple(checkpoints))


def rows(model: nn.Module, data: Dataset, objective: str) -> dict[str, Tensor]:
    """Gradients of each layer, name -> (B, p_layer), one instance at a time."""
    found: dict[str, list[Tensor]] = {}
    for x, y in zip(data.x, data.y, strict=True):
        logits = model(x[None])
        value = F.cross_entropy(logits, y[None])
        if objective == "margin":
            value = margins(logits, y[None]).sum()
        parameters = dict(model.named_parameters())
        gradients = torch.autograd.grad(value, list(parameters.values()))
        layers: dict[str, list[Tensor]] = {}
        for name, g in zip(parameters, gradients, strict=True):
            layers.setdefault(name.rpartition(".")[0], []).append(g.flatten())
        for name, parts in layers.items():
            found.setdefault(name, []).append(torch.cat(parts))
    return {name: torch.stack(parts) for name, parts in found.items()}


def dots(a: dict[str, Tensor], b: dict[str, Tensor], cosine: str) -> Tensor:
    """(m, n): raw products, cosines of the whole, or the sum of the cosines per layer."""
    if cosine == "layer":
        parts = [F.normalize(a[k], dim=1) @ F.normalize(b[k], dim=1).T for k in a]
        return torch.stack(parts).sum(0)
    left = torch.cat(list(a.values()), 1)
    right = torch.cat(list(b.values()), 1)
    if cosine == "all":
        return F.normalize(left, dim=1) @ F.normalize(right, dim=1).T
    return left @ right.T


def head_alone(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: g for name, g in gradients.items() if name == "head"}


CASES = [
    (TracIn(), "loss", "none"),
    (TracIn(layers="last"), "loss", "none"),
    (TracIn(renormalize=True), "margin", "all"),
    (TracIn(renormalize=True, layers="last"), "margin", "all"),
    (GAS(), "margin", "all"),
    (GAS(layerwise=True), "margin", "layer"),
]


@pytest.mark.parametrize(("estimator", "objective", "cosine"), CASES, ids=repr)
def test_scores_are_the_products_at_each_checkpoint_times_its_own_rate(
    estimator: TracIn | GAS, objective: str, cosine: str
):
    trace = run()
    test = random_data(4, SHAPE, CLASSES, seed=9)
    want = torch.zeros(4, 11, dtype=torch.float64)
    for k, rate in enumerate(RATES):
        model = trace.model(k)
        points = rows(model, test, objective)
        train_rows = rows(model, trace.train, objective)
        if getattr(estimator, "layers", "all") == "last":
            points = head_alone(points)
            train_rows = head_alone(train_rows)
        want += rate * dots(points, train_rows, cosine)
    torch.testing.assert_close(estimator.fit(trace)(test), want, rtol=1e-8, atol=1e-12)
    own = estimator.fit(trace)(trace.train).diag()
    torch.testing.assert_close(
        estimator.self_influence(trace), own, rtol=1e-8, atol=1e-12
    )


def test_balanced_weights_give_every_checkpoint_the_same_share_of_self_influence():
    trace = run()
    test = random_data(4, SHAPE, CLASSES, seed=9)
    want = torch.zeros(4, 11, dtype=torch.float64)
    for k in range(len(RATES)):
        model = trace.model(k)
        train_rows = rows(model, trace.train, "loss")
        squares = dots(train_rows, train_rows, "none").diag()
        products = dots(rows(model, test, "loss"), train_rows, "none")
        want += products / squares.mean()
    estimator = TracIn(weights="balanced")
    torch.testing.assert_close(estimator.fit(trace)(test), want, rtol=1e-8, atol=1e-12)
    own = estimator.self_influence(trace)
    assert float(own.mean()) == pytest.approx(len(RATES))
    projected = TracIn(weights="balanced", projection=4_000).fit(trace)(test)
    assert float((projected - want).norm() / want.norm()) < 0.15


def linear_run() -> Trace:
    """Batches of 4, 4 and 3 rows, and a rate that falls to almost nothing."""
    recipe = Recipe(
        "linear",
        epochs=2,
        batch_size=4,
        lr=0.4,
        momentum=0.0,
        weight_decay=0.0,
        schedule="cosine",
        checkpoints=1,
    )
    return train(random_data(11, SHAPE, CLASSES), recipe, 0)


@pytest.mark.parametrize("renormalize", [False, True])
def test_every_step_counts_with_its_rate_over_the_rows_of_its_batch(renormalize: bool):
    trace = linear_run()
    test = random_data(4, SHAPE, CLASSES, seed=9)
    model = trace.initial()
    objective = "margin" if renormalize else "loss"
    want = torch.zeros(4, 11, dtype=torch.float64)
    for batch, rate in zip(trace.batches, trace.lr.tolist(), strict=True):
        present = batch[batch >= 0]
        part = trace.train.take(present)
        products = dots(
            rows(model, test, objective),
            rows(model, part, objective),
            "all" if renormalize else "none",
        )
        want[:, present] += rate / len(present) * products
        loss = F.cross_entropy(model(part.x), part.y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                p -= rate * g
    estimator = TracIn(mode="steps", renormalize=renormalize)
    torch.testing.assert_close(estimator.fit(trace)(test), want, rtol=1e-8, atol=1e-12)
    own = estimator.fit(trace)(trace.train).diag()
    torch.testing.assert_close(
        estimator.self_influence(trace), own, rtol=1e-8, atol=1e-12
    )


def test_projections_keep_the_scores_on_the_mean():
    """Many directions come near, and only those of the head where it alone is asked for."""
    trace = run()
    test = random_data(2, SHAPE, CLASSES, seed=9)
    want = TracIn(layers="last").fit(trace)(test)
    got = TracIn(layers="last", projection=2_000).fit(trace)(test)
    assert float((got - want).norm() / want.norm()) < 0.2


REFUSED = [
    ({"mode": "epochs"}, "mode must be one of checkpoints, steps, got 'epochs'"),
    ({"layers": "first"}, "layers must be one of all, last, got 'first'"),
    ({"projection": 0}, "projection must be at least 1, got 0"),
    ({"projection": 8, "mode": "steps"}, "projection needs mode='checkpoints'"),
    ({"projection": 8, "renormalize": True}, "projection needs .* renormalize=False"),
    ({"weights": "balanced", "mode": "steps"}, "weights='balanced' needs mode"),
    ({"weights": "even"}, "weights must be one of rate, balanced"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=str)
def test_settings_without_meaning_are_refused(fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        TracIn(**fields)


@pytest.mark.parametrize("method", [GAS, TracIn])
def test_the_precision_that_is_chosen_is_asked_for_in_the_products_alone(
    method: type, monkeypatch: pytest.MonkeyPatch
):
    trace = run()
    test = random_data(2, SHAPE, CLASSES, seed=1)
    found: list[str] = []
    real = checkpoints.dot_products

    def products(*arguments: object) -> Tensor:
        found.append(asked())
        return real(*arguments)

    monkeypatch.setattr(checkpoints, "dot_products", products)
    full = method().fit(trace)(test)
    assert set(found) == {"ieee"}
    found.clear()
    fast = method(precision="tf32")
    whole = fast.fit(trace)(test)
    part = fast.fit_rows(trace)(test, range(3, 7))
    assert found == ["tf32"] * 2 * len(RATES)
    assert asked() == "ieee"
    torch.testing.assert_close(whole, full, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part, full[:, 3:7], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_the_rules_of_layers_are_tried_in_full_precision(
    precision: str, monkeypatch: pytest.MonkeyPatch
):
    data = random_data(11, SHAPE, CLASSES, dtype=torch.float32)
    test = random_data(2, SHAPE, CLASSES, seed=1, dtype=torch.float32)
    trace = train(data, Recipe("mlp", epochs=1, batch_size=4), 0)
    full = GAS().fit(trace)(test)
    real = F.linear

    def rounded(x: Tensor, *parameters: Tensor) -> Tensor:
        """As on tensor cores, whose kernels are other ones for batches of other sizes."""
        if asked() == "tf32":
            x = x * (1 + 1e-3 * len(x))
        return real(x, *parameters)

    monkeypatch.setattr(F, "linear", rounded)
    monkeypatch.setattr(planning, "_verdicts", OrderedDict())
    fast = GAS(precision=precision).fit(trace)(test)
    assert not torch.equal(fast, full)
    torch.testing.assert_close(fast, full, rtol=0.1, atol=0.1)


def test_tf32_is_of_checkpoints():
    for other in ({"mode": "steps"}, {"projection": 4}):
        with pytest.raises(ValueError, match="precision='tf32' needs"):
            TracIn(precision="tf32", **other)
    with pytest.raises(ValueError, match="half"):
        GAS(precision="half")


@pytest.mark.parametrize(
    "estimator",
    [TracIn(), TracIn(weights="balanced"), GAS(), GAS(layerwise=True)],
    ids=repr,
)
def test_the_rows_of_a_label_have_the_scores_of_the_whole_and_the_others_none(
    estimator: TracIn | GAS,
):
    trace = run()
    test = random_data(9, SHAPE, CLASSES, seed=9)
    whole = estimator.fit(trace)(test)
    of_label = dataclasses.replace(estimator, scope="label")
    scores = of_label.fit(trace)(test)
    own = trace.train.y == test.y[:, None]
    assert 0 < int(own.sum()) < own.numel()
    torch.testing.assert_close(scores[own], whole[own], rtol=1e-8, atol=1e-12)
    assert bool(scores[~own].isnan().all())
    blocks = of_label.fit_rows(trace)
    assert blocks is not None
    parts = [blocks(test, rows) for rows in (range(4), range(4, 11))]
    torch.testing.assert_close(
        torch.cat(parts, 1), scores, rtol=1e-8, atol=1e-12, equal_nan=True
    )
    torch.testing.assert_close(
        of_label.self_influence(trace), estimator.self_influence(trace)
    )


@pytest.mark.parametrize("fields", [{"mode": "steps"}, {"projection": 8}])
def test_a_scope_has_no_meaning_for_sums_that_are_made_otherwise(fields: dict):
    with pytest.raises(ValueError, match="scope='label' needs mode='checkpoints'"):
        TracIn(scope="label", **fields)
