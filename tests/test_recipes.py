"""Recipes: optimisers, warm-up, smoothed labels, augmentation and mixed precision.

`train`, its replay and all ways of `train_many` are the loop that is written out here.
"""

import copy
import math
import tomllib
import warnings
from dataclasses import fields, replace

import pytest
import torch
from conftest import random_data
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from estimators.hydra import HyDRA
from estimators.tracin import TracIn
from experiments.plan.gridfile import resolved
from experiments.plan.identity import configuration
from experiments.plan.parse import parse
from poisonbench.data import Dataset
from poisonbench.device.mixed import mixed_precision
from poisonbench.errors import ConfigError
from poisonbench.models import build, predict
from poisonbench.training import (
    Recipe,
    Start,
    Trace,
    batch_order,
    learning_rates,
    replay,
    train,
    train_many,
)
from poisonbench.training.augment import drawn, moved
from poisonbench.training.many import ensemble as asked
from poisonbench.training.many import train_many as bulk
from poisonbench.training.many.stacked import Mapped

Parameters = dict[str, Tensor]
BASE = Recipe(
    model="mlp",
    epochs=3,
    batch_size=8,
    lr=0.02,
    weight_decay=0.01,
    momentum=0.5,
    checkpoints=3,
)
CHANGES: dict[str, dict[str, object]] = {
    "adamw": {"optimizer": "adamw"},
    "adamw, its fields": {
        "optimizer": "adamw",
        "betas": (0.7, 0.9),
        "eps": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.3,
    },
    "warm-up": {"warmup": 0.35},
    "constant after warm-up": {"warmup": 0.5, "schedule": "constant"},
    "smoothed": {"label_smoothing": 0.2},
    "flip": {"augment": "flip"},
    "crop-flip": {"augment": "crop-flip"},
    "shift-flip": {"augment": "shift-flip"},
    "all": {
        "optimizer": "adamw",
        "warmup": 0.2,
        "label_smoothing": 0.1,
        "augment": "crop-flip",
    },
}
changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def images(seed: int = 0, n: int = 30) -> Dataset:
    return random_data(n, (1, 8, 16), 4, seed=seed)


def presented_by_hand(x: Tensor, draws: Tensor) -> Tensor:
    """Images one by one: padded by an eighth of each side, cropped, mirrored."""
    seen = []
    for image, (mirror, down, along) in zip(x, draws.tolist(), strict=True):
        c, h, w = image.shape
        padded = image.new_zeros(c, h + 2 * (h // 8), w + 2 * (w // 8))
        padded[:, h // 8 : h // 8 + h, w // 8 : w // 8 + w] = image
        crop = padded[:, down : down + h, along : along + w]
        seen.append(torch.flip(crop, [2]) if mirror else crop)
    return torch.stack(seen)


def smoothed_loss(logits: Tensor, y: Tensor, share: float) -> Tensor:
    """Cross entropy with the label's weight shared among all classes, (B,)."""
    classes = logits.shape[1]
    wanted = (1 - share) * F.one_hot(y, classes).to(logits) + share / classes
    return -(wanted * logits.log_softmax(1)).sum(1)


def rates_by_hand(steps: int, recipe: Recipe) -> list[float]:
    warm = math.ceil(recipe.warmup * steps)
    rates = [recipe.lr * (t + 1) / warm for t in range(warm)]
    for t in range(steps - warm):
        fall = (1 + math.cos(math.pi * t / (steps - warm))) / 2
        rates.append(recipe.lr * (1 if recipe.schedule == "constant" else fall))
    return rates


class ByHand:
    """The updates of both optimisers, written out on parameters by name."""

    def __init__(self, recipe: Recipe, theta: Parameters):
        self.recipe = recipe
        self.first = {name: torch.zeros_like(p) for name, p in theta.items()}
        self.second = {name: torch.zeros_like(p) for name, p in theta.items()}

    def moved(self, t: int, name: str, p: Tensor, g: Tensor, eta: float) -> Tensor:
        """The parameter after step t with the gradient g."""
        r = self.recipe
        if r.optimizer == "sgd":
            descent = g + r.weight_decay * p
            self.first[name] = r.momentum * self.first[name] + descent
            return p - eta * self.first[name]
        b1, b2 = r.betas
        self.first[name] = b1 * self.first[name] + (1 - b1) * g
        self.second[name] = b2 * self.second[name] + (1 - b2) * g**2
        mean = self.first[name] / (1 - b1 ** (t + 1))
        root = (self.second[name] / (1 - b2 ** (t + 1))).sqrt()
        return p * (1 - eta * r.weight_decay) - eta * mean / (root + r.eps)


def loop_by_hand(
    data: Dataset,
    recipe: Recipe,
    seed: int,
    weights: Tensor | None = None,
    divisor: str = "A",
) -> Parameters:
    """The state after the run, in which the loss of each instance is multiplied by its weight.

    Args:
        weights: (n,), None for 1; the result can be differentiated by them.
        divisor: of the sum over a batch, "A" its instances, "B" those whose weight is not 0.
    """
    if weights is None:
        weights = torch.ones(len(data), dtype=torch.float64)
    model = build(recipe.model, data.layout, seed).double().train()
    if recipe.start is not None:
        recipe.start.enter(model)
    theta = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = ByHand(recipe, theta)
    order = batch_order(len(data), recipe, seed)
    for t, eta in enumerate(rates_by_hand(len(order), recipe)):
        rows = order[t][order[t] >= 0]
        x = data.x[rows]
        if recipe.augment != "none":
            x = presented_by_hand(x, drawn(data, recipe, seed, t)[: len(rows)])
        logits = functional_call(model, theta, (x,))
        losses = smoothed_loss(logits, data.y[rows], recipe.label_smoothing)
        counted = weights[rows] != 0
        if divisor == "A":
            counted = torch.ones_like(counted)
        loss = (losses * weights[rows]).sum() / max(1, int(counted.sum()))
        linked = weights.requires_grad
        found = torch.autograd.grad(loss, list(theta.values()), create_graph=linked)
        for (name, p), g in zip(list(theta.items()), found, strict=True):
            after = optimizer.moved(t, name, p, g, eta)
            theta[name] = after if linked else after.detach().requires_grad_()
    return {**model.state_dict(), **theta}


def check(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value.detach(), rtol=1e-8, atol=1e-10)


@changes
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_train_and_its_replay_are_the_loop_by_hand(model: str, change: dict):
    data = images()
    recipe = replace(BASE, model=model, **change)
    trace = train(data, recipe, 3)
    check(trace.checkpoints[-1].state, loop_by_hand(data, recipe, 3))
    states = {c.step: c.state for c in trace.checkpoints}
    for step in replay(trace):
        torch.rand(2)
        if step.index in states:
            seen = step.model.state_dict()
            kept = states.pop(step.index)
            assert all(torch.equal(v, kept[name]) for name, v in seen.items())
    assert states.keys() == {len(trace.lr)}


MASKS = torch.rand((4, 30), generator=torch.Generator().manual_seed(2)) < torch.tensor(
    [[0.9], [0.5], [0.5], [0.2]]
)
WAYS = {"the fastest way": "", "vmap": Mapped, "one by one": None}


def take_the(way: object, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "":
        for where in (bulk, asked):
            monkeypatch.setattr(where, "way_of", lambda *_: way)


@changes
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_many_models_are_the_loop_by_hand_each_on_its_own_instances(
    change: dict, way: object, monkeypatch: pytest.MonkeyPatch
):
    data = images()
    recipe = replace(BASE, **change)
    take_the(way, monkeypatch)
    found = train_many(data, MASKS, recipe, [3, 4, 4, 5])
    for k, mask in enumerate(MASKS):
        seed = found.seeds[k]
        check(found.state(k), loop_by_hand(data.take(mask), recipe, seed))


@changes
@pytest.mark.parametrize("convention", ["A", "B"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_paired_models_are_the_loop_by_hand_without_the_absent(
    change: dict, convention: str, way: object, monkeypatch: pytest.MonkeyPatch
):
    """What is present is augmented as in the run on all instances."""
    data = images()
    recipe = replace(BASE, **change)
    take_the(way, monkeypatch)
    found = train_many(
        data, MASKS, recipe, [3, 3, 3, 4], batches="full", convention=convention
    )
    for k, mask in enumerate(MASKS):
        want = loop_by_hand(data, recipe, found.seeds[k], mask.double(), convention)
        check(found.state(k), want)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_frozen_features_see_augmented_instances_anew_in_every_step(model: str):
    data = images()
    before = train(images(seed=2), replace(BASE, model=model), 0)
    start = Start(before.checkpoints[-1].state, "head")
    recipe = replace(BASE, model=model, start=start, **CHANGES["all"])
    found = train_many(data, MASKS, recipe, [3, 4, 4, 5])
    few = train_many(data, MASKS, recipe, [3, 4, 4, 5], points=images(seed=1))
    for k, mask in enumerate(MASKS):
        want = loop_by_hand(data.take(mask), recipe, found.seeds[k])
        check(found.state(k), want)
    torch.testing.assert_close(few.logits(), found.logits(images(seed=1)))


def test_resnet18_takes_statistics_of_augmented_batches_alone_and_among_many():
    data = random_data(8, (1, 8, 8), 3)
    recipe = replace(BASE, model="resnet18", epochs=1, **CHANGES["all"])
    trace = train(data, recipe, 3)
    for _ in replay(trace):
        pass
    x = presented_by_hand(data.x[trace.batches[0]], drawn(data, recipe, 3, 0))
    normalize, stem, _ = trace.initial().features[:3]
    mean = stem(normalize(x)).mean((0, 2, 3)).detach()
    state = trace.checkpoints[-1].state
    torch.testing.assert_close(state["features.2.running_mean"], 0.1 * mean)
    found = train_many(data, torch.ones(1, 8).bool(), recipe, [3])
    check(found.state(0), state)


@pytest.mark.parametrize("model", ["cnn7", "resnet18"])
def test_models_with_statistics_are_trained_as_a_loop_by_hand_does(model: str):
    data = random_data(16, (3, 8, 8), 3)
    recipe = replace(BASE, model=model, epochs=1, **CHANGES["smoothed"])
    check(train(data, recipe, 3).checkpoints[-1].state, loop_by_hand(data, recipe, 3))


# --- augmentation ---


def test_draws_mirror_half_and_reach_every_corner_and_belong_to_seed_and_step():
    data = images()
    recipe = replace(BASE, augment="crop-flip", batch_size=4000)
    draws = drawn(data, recipe, 0, 7)
    assert draws.shape == (4000, 3)
    assert abs(float(draws[:, 0].double().mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    for column, corners in ((1, 3), (2, 5)):  # margins of 1 and 2 pixels
        counts = draws[:, column].bincount(minlength=corners)
        assert len(counts) == corners
        spread = (4000 / corners * (1 - 1 / corners)) ** 0.5
        assert float((counts - 4000 / corners).abs().max()) < 4.5 * spread
    assert torch.equal(draws, drawn(data, recipe, 0, 7))
    for other in (drawn(data, recipe, 1, 7), drawn(data, recipe, 0, 8)):
        assert not torch.equal(draws, other)
    flips = drawn(data, replace(recipe, augment="flip"), 0, 7)
    assert torch.equal(flips[:, 0], draws[:, 0])
    assert flips[:, 1:].unique(dim=0).tolist() == [[1, 2]]


def test_a_shift_is_half_as_far_as_a_crop_and_as_far_to_every_side():
    data = random_data(2, (1, 16, 32), 4)
    recipe = replace(BASE, augment="shift-flip", batch_size=4000)
    corners = drawn(data, recipe, 0, 7)[:, 1:]
    assert corners[:, 0].unique().tolist() == [1, 2, 3], "2 is where nothing is shifted"
    assert corners[:, 1].unique().tolist() == [2, 3, 4, 5, 6]
    least = 4000 / 5 - 4.5 * (4000 / 5) ** 0.5
    assert int(corners[:, 1].bincount().tolist()[2]) > least


def test_an_image_that_is_neither_mirrored_nor_shifted_stays_as_it_is():
    x = images().x[:2]
    still = torch.tensor([[0, 1, 2], [1, 1, 2]])
    seen = moved(x, still)
    assert torch.equal(seen[0], x[0])
    assert torch.equal(seen[1], x[1].flip(2))


@pytest.mark.parametrize(
    "data",
    [random_data(12, (6,), 3), replace(images(), kind="spectrogram")],
    ids=["vector", "spectrogram"],
)
def test_what_is_no_image_is_not_augmented(data: Dataset):
    recipe = replace(BASE, augment="flip")
    for work in (
        lambda: train(data, recipe, 0),
        lambda: train_many(data, torch.ones(1, len(data)).bool(), recipe, [0]),
    ):
        with pytest.raises(
            ConfigError, match=f"mirrors images, got kind '{data.kind}'"
        ):
            work()


# --- mixed precision ---


def test_mixed_precision_rounds_the_pass_of_a_step_and_nothing_else():
    data = random_data(30, (1, 8, 16), 4, dtype=torch.float32)
    recipe = replace(BASE, mixed_precision=True)
    trace = train(data, recipe, 3)
    for _ in replay(trace):
        pass
    exact = train(data, BASE, 3).checkpoints[-1].state
    far = 0.0
    for name, value in trace.checkpoints[-1].state.items():
        assert value.dtype == torch.float32
        difference = float((value - exact[name]).abs().max())
        far = max(far, difference / float(exact[name].abs().max()))
    assert 1e-5 < far < 0.2
    one = train(data, replace(recipe, epochs=1, batch_size=30), 3)
    rows = one.batches[0]
    with torch.autocast("cpu", torch.bfloat16):
        logits = one.initial()(data.x[rows]).detach()
    assert logits.dtype == torch.bfloat16
    assert float(one.losses) == float(F.cross_entropy(logits.float(), data.y[rows]))
    many = train_many(data, MASKS, recipe, [3, 4, 4, 5])
    for k, mask in enumerate(MASKS):
        alone = train(data.take(mask), recipe, many.seeds[k])
        torch.testing.assert_close(
            many.logits(data)[k], predict(alone.model(), data.x), rtol=1e-2, atol=1e-2
        )


def test_group_norm_of_bfloat16_is_rounded_and_gives_bfloat16():
    norm = nn.GroupNorm(2, 8)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.uniform_(-1.0, 1.0)
    x = torch.randn(5, 8, 4, 4).bfloat16()
    x.requires_grad_()
    with mixed_precision(x.device):
        rounded = norm(x)
        assert F.linear(x.flatten(1), x.flatten(1)).dtype == x.dtype
        assert norm(x.float()).dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    exact = norm(x.float())
    unit = 2.0**-8  # of bfloat16; the weight, the bias and the result are rounded
    low = torch.group_norm(x, 2, norm.weight.bfloat16(), norm.bias.bfloat16())
    assert torch.equal(rounded, low)  # GroupNorm of an autocast differs by device
    bound = unit * (2 * (exact - norm.bias[:, None, None]).abs() + 2 * exact.abs() + 1)
    assert bool(((rounded.float() - exact).abs() <= bound).all())
    want = torch.autograd.grad(exact.square().sum(), [norm.weight, norm.bias])
    got = torch.autograd.grad(rounded.float().square().sum(), [norm.weight, norm.bias])
    for one, other in zip(got, want, strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < 4 * unit


def test_mixed_precision_of_float64_is_refused():
    with pytest.raises(ConfigError, match="works on float32"):
        train(images(), replace(BASE, mixed_precision=True), 0)


# --- fields ---


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("optimizer", "adam", "must be one of sgd, adamw"),
        ("augment", "crop", "must be one of none, flip, shift-flip, crop-flip"),
        ("warmup", 1.0, r"must lie in \[0, 1\)"),
        ("label_smoothing", -0.1, r"must lie in \[0, 1\)"),
        ("betas", (0.9, 1.0), "each of betas"),
        ("betas", (0.9,), "two numbers, got 1"),
        ("eps", 0.0, "must be positive"),
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object, match: str):
    with pytest.raises(ValueError, match=match):
        Recipe(**{"optimizer": "adamw", field: value})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"optimizer": "adamw", "nesterov": True}, "nesterov must be False with adamw"),
        ({"eps": 1e-6}, "must be left out with sgd"),
        ({"betas": (0.8, 0.999)}, "must be left out with sgd"),
        ({"warmup": 0.1, "schedule": "one-cycle"}, "which has its own"),
    ],
)
def test_values_that_would_not_be_looked_at_are_refused(settings: dict, match: str):
    with pytest.raises(ValueError, match=match):
        Recipe(**settings)


def test_the_penalty_is_the_decay_of_sgd_and_adamw_has_none():
    assert Recipe(weight_decay=0.3).penalty == 0.3
    assert Recipe(weight_decay=0.3, optimizer="adamw").penalty == 0.0
    assert smooth(optimizer="adamw").weight_decay == 0.0
    assert smooth().weight_decay == BASE.weight_decay


def test_one_cycle_is_cosine_after_a_warm_up_of_three_tenths():
    one = learning_rates(37, Recipe(schedule="one-cycle"))
    assert torch.equal(one, learning_rates(37, Recipe(warmup=0.3)))


FIRST = "model epochs batch_size lr momentum nesterov weight_decay schedule checkpoints"


def test_a_field_that_came_later_is_a_part_of_the_identity_only_where_it_is_changed():
    assert set(configuration(Recipe())) == set(FIRST.split())
    later = {f.name for f in fields(Recipe)} - set(FIRST.split()) - {"start"}
    changed = {
        "optimizer": "adamw",
        "betas": (0.8, 0.9),
        "eps": 1e-6,
        "warmup": 0.1,
        "label_smoothing": 0.1,
        "augment": "flip",
        "mixed_precision": True,
    }
    assert changed.keys() <= later
    table = configuration(Recipe(**changed))
    assert {name: table[name] for name in changed} == {**changed, "betas": [0.8, 0.9]}


def test_a_grid_sets_every_field_and_resolves_to_the_same_cells():
    raw = {
        "attack": [{"name": "none"}],
        "recipe": {
            "optimizer": ["sgd", "adamw"],
            "warmup": 0.1,
            "label_smoothing": 0.1,
            "augment": "crop-flip",
            "mixed_precision": True,
        },
    }
    grid = parse(raw)
    assert len({scene.id for scene in grid.scenes}) == 2
    assert parse(tomllib.loads(resolved(grid))).scenes == grid.scenes
    raw["recipe"] |= {"optimizer": "adamw", "betas": [0.8, 0.99], "eps": 1e-6}
    grid = parse(raw)
    assert [scene.recipe.betas for scene in grid.scenes] == [(0.8, 0.99)]
    assert parse(tomllib.loads(resolved(grid))).scenes == grid.scenes


# --- estimators ---


def smooth(**change: object) -> Trace:
    """A run whose losses have no kink, on images of 1 x 8 x 8."""
    recipe = replace(BASE, model="test_bulk:Tanh", epochs=2, lr=0.01, **change)
    return train(random_data(16, (1, 8, 8), 3), recipe, 3)


SLOPES = ("adamw", "adamw, its fields", "warm-up", "crop-flip", "smoothed", "all")


@pytest.mark.parametrize("name", SLOPES)
def test_exact_hydra_is_minus_the_gradient_through_the_loop_by_hand(name: str):
    trace = smooth(**CHANGES[name])
    test = random_data(3, (1, 8, 8), 3, seed=1)
    weights = torch.ones(16, dtype=torch.float64, requires_grad=True)
    state = loop_by_hand(trace.train, trace.recipe, trace.seed, weights)
    logits = functional_call(trace.model(), state, (test.x,))
    losses = smoothed_loss(logits, test.y, trace.recipe.label_smoothing)
    slopes = [torch.autograd.grad(one, weights, retain_graph=True)[0] for one in losses]
    got = HyDRA(hessian=True).fit(trace)(test)
    torch.testing.assert_close(got, -torch.stack(slopes), rtol=1e-9, atol=1e-12)


def test_what_hydra_cannot_follow_is_refused_by_name():
    adamw = smooth(optimizer="adamw")
    for work in (HyDRA().fit, HyDRA().self_influence):
        with pytest.raises(ConfigError, match="the fast form has one weight per step"):
            work(adamw)
    data = random_data(16, (1, 8, 8), 3, dtype=torch.float32)
    mixed = train(data, replace(BASE, mixed_precision=True), 0)
    with pytest.raises(ConfigError, match="mixed_precision mixes two"):
        HyDRA(hessian=True).fit(mixed)
    HyDRA().fit(mixed)


@pytest.mark.parametrize(
    ("estimator", "recipe", "told"),
    [
        ({"name": "hydra"}, {"optimizer": ["sgd", "adamw"]}, "hydra: the fast form"),
        (
            {"name": "hydra", "hessian": True},
            {"mixed_precision": True},
            "hydra: the exact form",
        ),
        (
            {"name": "representer-point"},
            {"label_smoothing": [0.0, 0.1]},
            "representer-point: .* rest on cross entropy",
        ),
    ],
)
def test_a_grid_tells_what_cannot_follow_its_recipe_before_any_work(
    estimator: dict, recipe: dict, told: str
):
    raw = {"attack": [{"name": "none"}], "estimator": [estimator], "recipe": recipe}
    with pytest.raises(ConfigError, match=f"^estimator: {told}"):
        parse(raw)
    assert parse({**raw, "recipe": {}}).scenes
    fine = [{"name": "gas"}, {"name": "hydra", "hessian": [False, True]}]
    assert parse({**raw, "recipe": {"warmup": 0.1}, "estimator": fine}).scenes


def gradients_by_hand(model: nn.Module, data: Dataset, smoothing: float) -> Tensor:
    """Of the loss at the rows as they are, (n, p), one backward pass after another."""
    rows = []
    for x, y in zip(data.x.split(1), data.y.split(1), strict=True):
        model.zero_grad()
        smoothed_loss(model(x), y, smoothing).sum().backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", ["smoothed", "crop-flip"])
def test_gradients_are_of_the_rows_as_they_are_at_the_loss_of_the_run(name: str):
    trace = smooth(**CHANGES[name])
    smoothing = trace.recipe.label_smoothing
    test = random_data(3, (1, 8, 8), 3, seed=1)
    want = torch.zeros(3, 16, dtype=torch.float64)
    for k, checkpoint in enumerate(trace.checkpoints):
        model = trace.model(k)
        own = gradients_by_hand(model, trace.train, smoothing)
        want += checkpoint.lr * gradients_by_hand(model, test, smoothing) @ own.T
    torch.testing.assert_close(TracIn().fit(trace)(test), want, rtol=1e-9, atol=1e-12)
    want.zero_()
    for step in replay(trace):
        model = copy.deepcopy(step.model)
        batch = trace.train.take(step.rows)
        own = gradients_by_hand(model, batch, smoothing)
        dots = gradients_by_hand(model, test, smoothing) @ own.T
        want.index_add_(1, step.rows, dots, alpha=step.lr / len(step.rows))
    got = TracIn(mode="steps").fit(trace)(test)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["checkpoints", "steps"])
def test_tracin_warns_once_of_adamw_and_scores_all_the_same(mode: str):
    trace = smooth(optimizer="adamw")
    test = random_data(3, (1, 8, 8), 3, seed=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scorer = TracIn(mode=mode).fit(trace)
        scores = scorer(test)
        scorer(test)
    [one] = told
    assert "the run was trained by adamw" in str(one.message)
    assert scores.shape == (3, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TracIn(mode=mode).fit(smooth())
