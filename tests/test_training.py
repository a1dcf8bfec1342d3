"""Training: PyTorch's own SGD as the reference, bit-equality, replay, schedules, divergence."""

import math
import random

import numpy as np
import pytest
import torch
from conftest import random_data
from torch import nn
from torch.nn import functional as F

from poisonbench.data import Dataset, Layout
from poisonbench.errors import DivergedError
from poisonbench.models import build, predict
from poisonbench.seeding import Outside, derive, global_state
from poisonbench.training import Recipe, batch_order, learning_rates, replay, train

SETTINGS = [
    Recipe(
        model="mlp",
        epochs=2,
        batch_size=7,
        lr=0.1,
        momentum=0.0,
        weight_decay=0.0,
        schedule="constant",
        checkpoints=3,
    ),
    Recipe(
        model="mlp",
        epochs=2,
        batch_size=7,
        lr=0.05,
        momentum=0.9,
        weight_decay=0.01,
        schedule="cosine",
        checkpoints=3,
    ),
    Recipe(
        model="mlp",
        epochs=3,
        batch_size=8,
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.01,
        schedule="one-cycle",
    ),
]


def by_hand(data: Dataset, recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
    """The update rules written out, on the recorded batches and rates."""
    model = build(recipe.model, data.layout, seed).to(data.x.dtype)
    buffers: dict[str, torch.Tensor] = {}
    lr = learning_rates(len(batch_order(len(data), recipe, seed)), recipe)
    for rows, eta in zip(
        batch_order(len(data), recipe, seed), lr.tolist(), strict=True
    ):
        rows = rows[rows >= 0]
        grads = torch.autograd.grad(
            F.cross_entropy(model(data.x[rows]), data.y[rows]), list(model.parameters())
        )
        with torch.no_grad():
            for (name, p), g in zip(model.named_parameters(), grads, strict=True):
                g = g + recipe.weight_decay * p
                buffers[name] = (
                    recipe.momentum * buffers[name] + g
                    if name in buffers
                    else g.clone()
                )
                p -= eta * (
                    g + recipe.momentum * buffers[name]
                    if recipe.nesterov
                    else buffers[name]
                )
    return {name: p.detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize("recipe", SETTINGS, ids=repr)
def test_train_follows_the_update_rules(recipe: Recipe):
    data = random_data(30)
    trace = train(data, recipe, 3)
    for name, want in by_hand(data, recipe, 3).items():
        torch.testing.assert_close(
            trace.checkpoints[-1].state[name], want, rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_seeds_are_bit_equal_and_other_seeds_are_not(dtype: torch.dtype):
    data = random_data(30, dtype=dtype)
    a, b, c = (train(data, SETTINGS[1], seed) for seed in (5, 5, 6))
    assert all(
        torch.equal(v, b.checkpoints[-1].state[k])
        for k, v in a.checkpoints[-1].state.items()
    )
    assert a.checkpoints[-1].state["head.weight"].dtype == dtype
    assert torch.equal(a.losses, b.losses)
    assert not torch.equal(a.batches, c.batches)
    assert not torch.equal(
        a.checkpoints[-1].state["head.weight"], c.checkpoints[-1].state["head.weight"]
    )


class DropoutNet(nn.Module):
    """Draws from the global generators while it trains, and keeps running statistics."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        size = torch.Size(shape).numel()
        self.features = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, 20),
            nn.BatchNorm1d(20),
            nn.ReLU(),
            nn.Dropout(0.5),
        )
        self.head = nn.Linear(20, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


@pytest.mark.parametrize("model", ["cnn", "test_training:DropoutNet"])
def test_replay_passes_through_every_checkpoint_bit_for_bit(model: str):
    recipe = Recipe(model=model, epochs=3, batch_size=8, lr=0.05, checkpoints=4)
    trace = train(random_data(30, dtype=torch.float32), recipe, 1)
    states = {c.step: c.state for c in trace.checkpoints}
    seen = 0
    for step in replay(trace):
        torch.rand(3)  # whoever consumes the replay may draw numbers of its own
        if step.index in states:
            seen += 1
            assert all(
                torch.equal(v, states[step.index][k])
                for k, v in step.model.state_dict().items()
            )
    last = step.model.state_dict()
    assert seen == len(states) - 1
    assert all(torch.equal(v, last[k]) for k, v in trace.checkpoints[-1].state.items())


def test_layers_draw_in_each_step_from_a_stream_of_the_seed():
    """PyTorch's own SGD, dropout drawn from the stream "step" of the run's seed."""
    data, recipe = (
        random_data(16),
        Recipe("test_training:DropoutNet", 2, 8, momentum=0.5),
    )
    trace = train(data, recipe, 4)
    model = trace.initial().train()
    sgd = torch.optim.SGD(model.parameters(), lr=1, momentum=0.5, weight_decay=5e-4)
    for t, (rows, rate) in enumerate(
        zip(trace.batches, trace.lr.tolist(), strict=True)
    ):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(4, "step", t))
            loss = F.cross_entropy(model(data.x[rows]), data.y[rows])
        sgd.zero_grad()
        loss.backward()
        sgd.param_groups[0]["lr"] = rate
        sgd.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(
            trace.checkpoints[-1].state[name], value, rtol=1e-10, atol=1e-12
        )


def test_checkpoints_rebuild_the_model_and_the_first_step_starts_from_the_seed():
    data = random_data(30)
    trace = train(data, SETTINGS[1], 1)
    first = next(iter(replay(trace)))
    assert all(
        torch.equal(v, first.model.state_dict()[k])
        for k, v in trace.initial().state_dict().items()
    )
    assert [c.step for c in trace.checkpoints] == [4, 7, 10]
    assert [c.lr for c in trace.checkpoints] == [
        float(trace.lr[c.step - 1]) for c in trace.checkpoints
    ]
    assert not trace.model().training
    assert predict(trace.model(0), data.x).shape == (30, 10)


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    train(
        random_data(20),
        Recipe(model="test_training:DropoutNet", epochs=1, batch_size=8),
        0,
    )
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_epoch_visits_every_instance_once():
    recipe = Recipe(epochs=3, batch_size=7)
    order = batch_order(30, recipe, 0).view(3, -1)
    for epoch in order:
        assert torch.equal(epoch[epoch >= 0].sort().values, torch.arange(30))
    assert not torch.equal(order[0], order[1])
    assert batch_order(3, recipe, 0).shape == (3, 3)


def test_schedules():
    constant, cosine, cycle = (
        learning_rates(100, Recipe(schedule=s, lr=0.2))
        for s in ("constant", "cosine", "one-cycle")
    )
    assert torch.equal(constant, torch.full((100,), 0.2, dtype=torch.float64))
    assert cosine[0] == 0.2
    assert float(cosine[50]) == pytest.approx(0.1)
    assert bool((cosine.diff() < 0).all())
    assert cycle.argmax() in (29, 30)
    assert float(cycle.max()) == pytest.approx(0.2)
    assert bool((cycle > 0).all())
    assert bool((cosine > 0).all())


def test_schedules_in_closed_form():
    """Twenty steps: the rise of "one-cycle" takes 6.

    Its fall and that of "cosine" are half a wave.
    """
    up = [0.5 * (t + 1) / 6 for t in range(6)]
    down = [0.5 * (1 + math.cos(math.pi * t / 14)) / 2 for t in range(14)]
    wave = [0.5 * (1 + math.cos(math.pi * t / 20)) / 2 for t in range(20)]
    assert learning_rates(
        20, Recipe(schedule="one-cycle", lr=0.5)
    ).tolist() == pytest.approx(up + down)
    assert learning_rates(
        20, Recipe(schedule="cosine", lr=0.5)
    ).tolist() == pytest.approx(wave)


def test_the_curve_is_the_mean_of_the_losses_seen_in_each_epoch():
    data, recipe = random_data(30), SETTINGS[1]
    trace = train(data, recipe, 3)
    seen = []
    for step in replay(trace):
        with torch.no_grad():
            seen.append(
                F.cross_entropy(step.model(data.x[step.rows]), data.y[step.rows])
            )
    torch.testing.assert_close(trace.losses, torch.stack(seen).view(2, 5).mean(1))


def test_a_run_that_diverges_at_once_diverged_in_its_first_epoch():
    recipe = Recipe(model="mlp", epochs=3, batch_size=10, lr=1e30, schedule="constant")
    with pytest.raises(DivergedError) as caught:
        train(random_data(30, dtype=torch.float32), recipe, 0)
    assert caught.value.epoch == 1


def test_a_state_that_left_the_finite_numbers_is_divergence_though_the_parameters_are_finite():
    """Running statistics of an instance of 1e38: the model could predict nothing."""
    data = random_data(16, dtype=torch.float32)
    x = data.x.clone()
    x[5] = 1e38
    with pytest.raises(DivergedError):
        train(Dataset(x, data.y, 10), Recipe("test_training:DropoutNet", 1, 8), 0)


def test_draws_outside_of_pytorch_are_seeded_until_none_is_seen_and_put_back():
    outside = Outside()
    before = global_state()
    drawn = []
    for _ in range(2):
        with outside.drawing(5):
            drawn.append((np.random.random(), random.random()))  # noqa: NPY002
        assert outside.drawn
    assert drawn[0] == drawn[1]
    with outside.drawing(5):
        pass
    assert not outside.drawn
    assert not global_state().moved(before)


def test_divergence_names_its_epoch():
    recipe = Recipe(
        model="mlp", epochs=50, batch_size=10, lr=1e6, momentum=0.9, schedule="constant"
    )
    with pytest.raises(DivergedError, match="diverged in epoch") as caught:
        train(random_data(30, dtype=torch.float32), recipe, 0)
    assert 1 <= caught.value.epoch < 50


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("schedule", "step"),
    ],
)
def test_a_recipe_out_of_range_names_the_rule_and_the_value(field: str, value: object):
    with pytest.raises(ValueError, match=f"{field} must .*got .*{value}"):
        Recipe(**{field: value})


def test_predict_is_the_model_in_blocks():
    data, model = (
        random_data(30),
        build("cnn", Layout((2, 8, 8), 10, "image"), 0).double().train(),
    )
    torch.testing.assert_close(
        predict(model, data.x, batch=7), predict(model, data.x), rtol=1e-12, atol=1e-12
    )
    assert model.training


# --- how images lie in memory ---

LAID: list[bool] = []  # of each pass in training: pixel by pixel


class Laid(nn.Module):
    """A convolution with maps of two by two, and a head; notes how its images lie."""

    def __init__(self, classes: int, viewed: bool) -> None:
        super().__init__()
        self.viewed = viewed
        self.convolution = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            LAID.append(x.is_contiguous(memory_format=torch.channels_last))
        maps = self.convolution(x)
        # a view refuses maps that lie pixel by pixel
        return self.head(maps.view(len(x), 16) if self.viewed else maps.flatten(1))


def any_way(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Laid(classes, viewed=False)


def one_way(shape: tuple[int, ...], classes: int) -> nn.Module:
    return Laid(classes, viewed=True)


def test_images_of_a_step_lie_pixel_by_pixel_unless_the_model_needs_the_other_way():
    data = random_data(12, (3, 8, 8), 3)
    found = {}
    for name, pixelwise in (("any_way", True), ("one_way", False)):
        LAID.clear()
        recipe = Recipe(model=f"test_training:{name}", epochs=2, batch_size=6, lr=0.05)
        found[name] = train(data, recipe, 0).model().state_dict()
        assert [pixelwise] * 4 == LAID, "convolutions take up to half as long so"
    for name, value in found["any_way"].items():
        torch.testing.assert_close(value, found["one_way"][name])
