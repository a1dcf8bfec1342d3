"""Replays, restarts and bulk training of models of many kinds.

They are the run itself, or are refused by name.
"""

import copy
import random
from collections.abc import Callable
from dataclasses import replace

import kinds_of_models as kinds
import numpy as np
import pytest
import torch
from conftest import random_data
from kinds_of_models import INPUTS, KINDS, SHAPE, WIDTH, network
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.downsampling import Downsampling
from estimators.hydra import HyDRA
from estimators.leave_one_out import LeaveOneOut
from estimators.tracin import TracIn
from poisonbench.data import Dataset, Layout
from poisonbench.errors import ConfigError, ModelError, ReplayError
from poisonbench.functional import call, places, whole_state
from poisonbench.gradients.products import dot_products
from poisonbench.models import Classifier, build, predict
from poisonbench.notes import collecting
from poisonbench.seeding import global_state
from poisonbench.training import (
    Recipe,
    batch_order,
    learning_rates,
    replay,
    train,
    train_many,
)
from poisonbench.training.many.chain import Chain
from poisonbench.training.many.choice import way_of
from poisonbench.training.many.stacked import Mapped, split
from poisonbench.training.many.trial import agrees
from poisonbench.training.trace import Trace

TRAIN = random_data(22, SHAPE, 3)
TEST = random_data(5, SHAPE, 3, seed=1)
MASKS = (
    torch.rand((3, 22), generator=torch.Generator().manual_seed(1))
    .argsort(1)
    .argsort(1)
    < torch.tensor([22, 15, 12])[:, None]
)  # no batch of 5 has one row
every_kind = pytest.mark.parametrize("kind", KINDS)


def recipe_of(make: str | Callable[..., nn.Module], **more: object) -> Recipe:
    """Of a function in `kinds_of_models`, or one that is put there."""
    if callable(make):
        setattr(kinds, make.__name__, make)
        make = make.__name__
    settings = {"epochs": 3, "batch_size": 5, "lr": 0.1, "checkpoints": 3, **more}
    return Recipe(model=f"kinds_of_models:{make}", **settings)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


@every_kind
def test_a_replay_passes_the_checkpoints_bit_for_bit_whatever_happens_between_the_steps(
    kind: str,
):
    trace = train(TRAIN, recipe_of(kind), 1)
    states = {c.step: c.state for c in trace.checkpoints}
    before = global_state()
    for step in replay(trace):
        if step.index in states:
            assert same(states.pop(step.index), step.model.state_dict())
        torch.rand(2)
        np.random.random(2)  # noqa: NPY002 - who looks on may draw from anything
        random.random()
        predict(step.model, TEST.x)
    assert states.keys() == {len(trace.lr)}
    assert same(states[len(trace.lr)], step.model.state_dict())
    assert global_state().moved(before), (
        "the numbers drawn between the steps were put back"
    )
    predicted = predict(trace.model(), TEST.x)
    assert torch.equal(predicted, predict(step.model, TEST.x))


@every_kind
def test_equal_seeds_start_and_end_alike_whatever_was_drawn_before(kind: str):
    first = train(TRAIN, recipe_of(kind), 1)
    torch.rand(7)
    np.random.random(7)  # noqa: NPY002
    random.random()
    before = global_state()
    again = train(TRAIN, recipe_of(kind), 1)
    assert not global_state().moved(before)
    assert same(first.initial().state_dict(), again.initial().state_dict())
    assert same(first.checkpoints[-1].state, again.checkpoints[-1].state)
    other = train(TRAIN, recipe_of(kind), 2)
    assert not same(first.checkpoints[-1].state, other.checkpoints[-1].state)


@every_kind
def test_models_trained_together_are_those_trained_one_by_one(kind: str):
    ensemble = train_many(TRAIN, MASKS, recipe_of(kind), [1, 2, 2])
    few = train_many(TRAIN, MASKS, recipe_of(kind), [1, 2, 2], points=TEST)
    logits = ensemble.logits(TEST)
    torch.testing.assert_close(few.logits(), logits, rtol=1e-9, atol=1e-10)
    assert not bool(ensemble.diverged.any())
    for k, mask in enumerate(MASKS):
        want = train(TRAIN.take(mask), recipe_of(kind), ensemble.seeds[k])
        state = ensemble.state(k)
        assert state.keys() == want.checkpoints[-1].state.keys()
        for name, value in want.checkpoints[-1].state.items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-10)
        predicted = predict(want.model(), TEST.x)
        torch.testing.assert_close(logits[k], predicted, rtol=1e-9, atol=1e-10)


# --- estimators against plain SGD ---


def plain_steps(trace: Trace, weights: Tensor):
    """PyTorch's own SGD on the run's batches, the loss of each instance times its weight.

    Yields the model before each step.
    """
    recipe, data = trace.recipe, trace.train
    model = build(recipe.model, data.layout, trace.seed).double()
    sgd = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=1.0,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    order = batch_order(len(data), recipe, trace.seed)
    for rows, rate in zip(
        order, learning_rates(len(order), recipe).tolist(), strict=True
    ):
        rows = rows[rows >= 0]
        yield model, rows, rate
        losses = F.cross_entropy(model(data.x[rows]), data.y[rows], reduction="none")
        sgd.zero_grad()
        ((losses * weights[rows]).sum() / len(rows)).backward()
        sgd.param_groups[0]["lr"] = rate
        sgd.step()
    yield model, None, 0.0


def losses_after(trace: Trace, weights: Tensor) -> Tensor:
    *_, (model, _, _) = plain_steps(trace, weights)
    with torch.no_grad():
        return F.cross_entropy(model(TEST.x), TEST.y, reduction="none")


def gradients(model: nn.Module, data: Dataset) -> Tensor:
    """(n, p), a plain backward pass an instance, on a copy."""
    model = copy.deepcopy(model)
    rows = []
    for x, y in zip(data.x.split(1), data.y.split(1), strict=True):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        rows.append(
            torch.cat(
                [p.grad.flatten() for p in model.parameters() if p.grad is not None]
            )
        )
    return torch.stack(rows)


def check(got: Tensor, want: Tensor, tolerance: float = 1e-6) -> None:
    assert float((got - want).abs().max() / want.abs().max()) < tolerance


REUSED = [
    *(
        "lazy",
        "lazy_convolution",
        "shared_module",
        "shared_between_rectifiers",
        "tied_weights",
    ),
    *("unused_parameter", "hidden_buffer", "numpy_init", "frozen_layer", "hooked"),
]
reused = pytest.mark.parametrize("kind", REUSED)


@reused
def test_leave_one_out_is_plain_sgd_without_the_term_of_an_instance(kind: str):
    trace = train(TRAIN, recipe_of(kind), 0)
    got = LeaveOneOut(repeats=1, convention="A", candidates=(0, 7, 21)).fit(trace)(TEST)
    ones = torch.ones(22, dtype=torch.float64)
    whole = losses_after(trace, ones)
    for i in (0, 7, 21):
        without = ones.clone()
        without[i] = 0
        check(got[:, i], losses_after(trace, without) - whole)


@reused
def test_exact_hydra_is_the_slope_of_plain_sgd(kind: str):
    smooth = recipe_of(kind, lr=0.02, momentum=0.5, epochs=2)
    trace = train(TRAIN, smooth, 0)
    got = HyDRA(hessian=True).fit(trace)(TEST)
    for i in (0, 7, 21):
        step = 1e-5 * F.one_hot(torch.tensor(i), 22).double()
        up, down = losses_after(trace, 1 + step), losses_after(trace, 1 - step)
        check(got[:, i], (down - up) / 2e-5, tolerance=1e-5)


@reused
def test_products_of_every_step_are_those_of_plain_backward_passes(kind: str):
    trace = train(TRAIN, recipe_of(kind), 0)
    want = torch.zeros(5, 22, dtype=torch.float64)
    for model, rows, rate in plain_steps(trace, torch.ones(22, dtype=torch.float64)):
        if rows is not None:
            dots = gradients(model, TEST) @ gradients(model, TRAIN.take(rows)).T
            want.index_add_(1, rows, dots, alpha=rate / len(rows))
    check(TracIn(mode="steps").fit(trace)(TEST), want)


def test_a_model_that_holds_a_weight_in_a_list_has_its_own_leave_one_out_and_no_gradients():
    """No call can replace that weight, so that the run cannot be walked on values by name."""
    trace = train(TRAIN, recipe_of("read_twice"), 0)
    got = LeaveOneOut(repeats=1, convention="A", candidates=(7,)).fit(trace)(TEST)
    ones = torch.ones(22, dtype=torch.float64)
    without = ones.index_fill(0, torch.tensor(7), 0.0)
    check(got[:, 7], losses_after(trace, without) - losses_after(trace, ones))
    with pytest.raises(ReplayError, match="layer"):
        HyDRA(hessian=True).fit(trace)
    with pytest.raises(
        ModelError, match="'weight' that the model also reads from elsewhere"
    ):
        TracIn(mode="steps").fit(trace)(TEST)


# --- what cannot be repeated is refused ---


class Counting(nn.Module):
    """A number that is no buffer moves with every call, and scales the output while training."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * (1 + 0.01 * self.calls) if self.training else x


def counting(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Counting())


GLOBAL = {"scale": 1.0}


class Switched(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * GLOBAL["scale"]


def switched(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Switched())


def look(step) -> None:
    predict(step.model, TEST.x)


def overwrite(step) -> None:
    with torch.no_grad():
        step.model.head.bias += 1e-12


def relearn(step) -> None:
    GLOBAL["scale"] = 2.0


@pytest.mark.parametrize(
    ("make", "between"), [(counting, look), (switched, overwrite), (switched, relearn)]
)
def test_a_replay_that_ends_elsewhere_names_the_parameter_and_the_way_out(
    make, between
):
    trace = train(TRAIN, recipe_of(make), 0)
    steps = replay(trace)
    for _ in trace.lr:
        between(next(steps))
    with pytest.raises(ReplayError, match=r"'\S+' is off by .*train again here"):
        next(steps)
    GLOBAL["scale"] = 1.0


def test_a_replay_that_is_left_early_is_not_compared():
    trace = train(TRAIN, recipe_of(counting), 0)
    for step in replay(trace):
        predict(step.model, TEST.x)
        if step.index == 3:
            break
    assert step.index == 3


def test_an_off_state_of_the_log_is_refused_by_every_estimator_that_replays():
    trace = train(TRAIN, recipe_of("lazy"), 0)
    last = trace.checkpoints[-1]
    one = torch.tensor([0.0, 1e-12, 0.0], dtype=torch.float64)
    state = {**last.state, "head.bias": last.state["head.bias"] + one}
    broken = replace(
        trace, checkpoints=(*trace.checkpoints[:-1], replace(last, state=state))
    )
    for score in (
        lambda: TracIn(mode="steps").fit(broken)(TEST),
        lambda: TracIn(mode="steps").self_influence(broken),
        lambda: HyDRA().fit(broken)(TEST),
        lambda: HyDRA().self_influence(broken),
        lambda: HyDRA(hessian=True).fit(broken)(TEST),
    ):
        with pytest.raises(ReplayError, match=r"'head\.bias' is off by 1\.0e-12"):
            score()


class Statistics(nn.Module):
    """Running statistics in an attribute: no checkpoint holds them."""

    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean += float(x.detach().mean())
        return x - self.mean


def hidden_statistics(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Statistics())


class Extra(nn.Linear):
    def get_extra_state(self) -> dict:
        return {"a": 1}

    def set_extra_state(self, state: dict) -> None:
        pass


def extra_state(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(Extra(INPUTS, WIDTH))


def batch_statistics(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(
        nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH, track_running_stats=False)
    )


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def centred(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH), Centred())


def sequence_first(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(
        nn.Unflatten(1, (4, 6)),
        nn.TransformerEncoderLayer(6, 2, 8),
        nn.Flatten(),
        width=24,
    )


ONE = network(nn.Linear(INPUTS, WIDTH))
FEATURES = network(nn.Linear(INPUTS, WIDTH)).features


def kept_between_calls(shape: tuple[int, ...], classes: int) -> nn.Module:
    return ONE


def kept_features(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Classifier(FEATURES, nn.Linear(WIDTH, classes))


def nothing_to_train(shape: tuple[int, ...], classes: int) -> nn.Module:
    return network(nn.Linear(INPUTS, WIDTH)).requires_grad_(False)


def drawn_in_evaluation(shape: tuple[int, ...], classes: int) -> nn.Module:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    return network(nn.Linear(INPUTS, WIDTH), Noise())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            hidden_statistics,
            "rebuilt from its checkpoint, gives other outputs .*buffer",
        ),
        (
            extra_state,
            r"keeps 'features\.1\._extra_state', which is no parameter and no buffer",
        ),
        (
            batch_statistics,
            r"depends on the points beside .*features\.2 \(BatchNorm1d\).*GroupNorm",
        ),
        (centred, "depends on the points beside it in the batch: Classifier"),
        (sequence_first, "depends on the points beside it .*batches first"),
        (nothing_to_train, "has no parameter that requires a gradient"),
        (drawn_in_evaluation, "gives other outputs at a second call"),
        (
            kept_between_calls,
            "holds the same module as a model built before: 'features.1'.*copy",
        ),
        (kept_features, "holds the same module as a model built before"),
    ],
)
def test_a_model_whose_runs_or_points_are_not_its_own_is_refused_by_name(
    make, match: str
):
    if make in (kept_between_calls, kept_features):
        build(recipe_of(make).model, Layout(SHAPE, 3, "image"), 1)
    with pytest.raises(ConfigError, match=match):
        train(TRAIN, recipe_of(make), 0)


def test_a_function_that_gives_no_module_is_refused():
    def nothing(shape: tuple[int, ...], classes: int) -> None:
        return None

    with pytest.raises(TypeError, match=r"must give an nn\.Module, got NoneType"):
        train(TRAIN, recipe_of(nothing), 0)


# --- BatchNorm and single rows ---


def test_batch_norm_and_a_batch_of_one_row_is_refused_before_training():
    with pytest.raises(
        ConfigError, match=r"at least two rows.*features\.2 \(BatchNorm1d\).*batch_size"
    ):
        train(random_data(21, SHAPE, 3), recipe_of("batch_norm"), 0)
    assert len(train(random_data(21, SHAPE, 3), recipe_of("group_norm"), 0).lr) == 15


def spatial(shape: tuple[int, ...], classes: int) -> nn.Module:
    layers = [
        nn.Unflatten(1, SHAPE),
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Flatten(),
    ]
    return network(*layers, width=16)


def test_batch_norm_over_the_pixels_of_one_image_trains():
    assert len(train(random_data(21, SHAPE, 3), recipe_of(spatial), 0).lr) == 15


@pytest.mark.parametrize(
    ("estimator", "n"),
    [
        (LeaveOneOut(repeats=1), 22),  # the last batch of two loses one
        (Downsampling(models=4, fraction=0.5), 22),  # 11 = 5 + 5 + 1
        (Downsampling(models=4, sampling="bernoulli"), 24),
    ],
    ids=repr,
)
def test_batch_norm_and_a_subset_that_leaves_one_row_is_refused_before_training(
    estimator, n: int, monkeypatch
):
    trace = train(random_data(n, SHAPE, 3), recipe_of("batch_norm"), 0)
    monkeypatch.setattr("poisonbench.training.many.descent.retrain", None)
    with pytest.raises(ConfigError, match="at least two rows in a batch"):
        estimator.fit(trace)


def test_batch_norm_and_leave_one_out_with_three_rows_in_the_last_batch_is_plain_sgd():
    data = random_data(23, SHAPE, 3)
    trace = train(data, recipe_of("batch_norm"), 0)
    got = LeaveOneOut(repeats=1, candidates=(4,)).fit(trace)(TEST)
    order = batch_order(23, trace.recipe, 0)
    model = build(trace.recipe.model, Layout(SHAPE, 3, "image"), 0).double()
    sgd = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9, weight_decay=5e-4)
    for rows, rate in zip(order, trace.lr.tolist(), strict=True):
        rows = rows[(rows >= 0) & (rows != 4)]
        model.train()
        sgd.zero_grad()
        F.cross_entropy(model(data.x[rows]), data.y[rows]).backward()
        sgd.param_groups[0]["lr"] = rate
        sgd.step()
    with_it = F.cross_entropy(predict(trace.model(), TEST.x), TEST.y, reduction="none")
    without = F.cross_entropy(predict(model, TEST.x), TEST.y, reduction="none")
    check(got[:, 4], without - with_it)


# --- the choice of a way through many models ---


WAYS = {
    "shared_rectifiers": Chain,
    "numpy_init": Chain,
    "frozen_layer": Chain,
    "convolutions": Chain,
    "hooked": Mapped,
    "hooked_input": Mapped,
    "own_forward": Mapped,
    "shared_between_rectifiers": Mapped,
    "tied_weights": Mapped,
    "pruned": Mapped,
    "unused_parameter": Mapped,
    "lazy_convolution": None,
    "read_twice": None,
    "dropout": None,
    "little_dropout": None,
    "rarely_noisy": None,
    "batch_norm": None,
    "buffers": None,
    "numpy_noise": None,
}


@pytest.mark.parametrize("kind", WAYS)
def test_the_fastest_way_that_agrees_with_plain_training_is_taken(kind: str):
    _, model = split(recipe_of(kind), TRAIN, 0)
    before = {
        name: value.detach().clone() for name, value in whole_state(model).items()
    }
    state = global_state()
    assert way_of(model, TRAIN.x, 5) is WAYS[kind]
    assert not global_state().moved(state)
    assert not any(module.training for module in model.modules())
    assert same(
        before, {name: value.detach() for name, value in whole_state(model).items()}
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("model", ["linear", "mlp", "cnn"])
def test_small_built_in_models_train_as_a_chain(model: str, dtype: torch.dtype):
    data = random_data(22, dtype=dtype)
    _, start = split(Recipe(model), data, 0)
    assert way_of(start, data.x, 32) is Chain


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_way_that_is_a_thousandth_off_is_refused(dtype: torch.dtype):
    class Off(Mapped):
        def backward(self, d: Tensor) -> None:
            super().backward(d)
            self.states["features.1.bias"].grad[1] *= 1.001

    _, model = split(recipe_of("numpy_init"), TRAIN.to(dtype=dtype), 0)
    x = TRAIN.x[:4].to(dtype)
    assert agrees(Mapped, model, x)
    assert not agrees(Off, model, x)


def test_a_way_that_confuses_the_models_is_refused():
    class First(Mapped):
        """All models at the first one's values."""

        def __init__(self, model: nn.Module, states: dict[str, Tensor]) -> None:
            first = {
                name: v.detach()[:1].expand_as(v).clone() for name, v in states.items()
            }
            super().__init__(
                model,
                {
                    name: v.requires_grad_(states[name].requires_grad)
                    for name, v in first.items()
                },
            )
            self.given = states

        def backward(self, d: Tensor) -> None:
            super().backward(d)
            for name, state in self.states.items():
                self.given[name].grad = state.grad

    _, model = split(recipe_of("numpy_init"), TRAIN, 0)
    assert not agrees(First, model, TRAIN.x[:4])


def test_a_refused_way_is_told_in_the_log_once():
    with collecting() as notes:
        train_many(TRAIN, MASKS, recipe_of("read_twice"), [1, 2, 2])
    assert (
        notes.figures["trained_one_by_one"]
        == "the model does not train as Mapped would"
    )
    with collecting() as notes:
        train_many(TRAIN, MASKS, recipe_of("shared_module"), [1, 2, 2])
    assert "trained_one_by_one" not in notes.figures


# --- calls with other values ---


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"read_twice"}))
def test_a_call_with_other_values_is_the_model_that_holds_them_and_leaves_the_first_as_it_was(
    kind: str,
):
    one, other = (
        build(f"kinds_of_models:{kind}", Layout(SHAPE, 3, "image"), seed).double()
        for seed in (0, 1)
    )
    before = dict(one.named_parameters(remove_duplicate=False))
    got = call(one, whole_state(other), TEST.x)
    torch.testing.assert_close(got, other(TEST.x), rtol=1e-12, atol=1e-12)
    after = dict(one.named_parameters(remove_duplicate=False))
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


def test_places_name_a_module_once_and_a_tied_parameter_twice():
    shared = build("kinds_of_models:shared_module", Layout(SHAPE, 3, "image"), 0)
    assert places(shared)["features.3.weight"] == ["features.3.weight"]
    tied = build("kinds_of_models:tied_weights", Layout(SHAPE, 3, "image"), 0)
    assert places(tied)["features.3.weight"] == [
        "features.3.weight",
        "features.5.weight",
    ]


@reused
def test_dot_products_leave_the_live_model_of_a_replay_its_parameters(kind: str):
    trace = train(TRAIN, recipe_of(kind), 0)
    for step in replay(trace):
        before = dict(step.model.named_parameters(remove_duplicate=False))
        dot_products(step.model, TRAIN.take(step.rows), TEST)
        after = dict(step.model.named_parameters(remove_duplicate=False))
        assert all(before[name] is after[name] for name in before)
