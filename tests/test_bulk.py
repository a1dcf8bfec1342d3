"""Bulk training: many models together are what `train` gives one by one.

Whatever the sizes, orders, and interruptions.
"""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import random_data
from torch import nn
from torch.nn import functional as F

from poisonbench.data import Dataset
from poisonbench.models import build, predict
from poisonbench.objectives import utility
from poisonbench.seeding import generator
from poisonbench.training import (
    Recipe,
    Start,
    batch_order,
    learning_rates,
    train,
    train_many,
    without_head,
)
from poisonbench.training.many import cache
from poisonbench.training.many import ensemble as asked
from poisonbench.training.many import train_many as bulk
from poisonbench.training.many.stacked import Mapped

SETTINGS = [
    {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant"},
    {"momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine"},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "schedule": "one-cycle"},
]
settings = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s["schedule"])


def recipe_of(model: str, **more: object) -> Recipe:
    return Recipe(**{"model": model, "epochs": 3, "batch_size": 8, "lr": 0.05, **more})


def random_masks(K: int, n: int, size: int | None = None) -> torch.Tensor:
    """K subsets of `size` instances, or of sizes of their own.

    None leaves a batch of 1 of 8, where BatchNorm fails.
    """
    sizes = torch.full((K,), size) if size else torch.tensor([7, 12, 15, 22, 30])[:K]
    return (
        torch.rand((K, n), generator=generator(0, "masks")).argsort(1).argsort(1)
        < sizes[:, None]
    )


class Tanh(nn.Module):
    """A model that only `vmap` knows how to stack.

    It has its own normalisation, and a buffer that differs between seeds.
    """

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        size = torch.Size(shape).numel()
        self.features = nn.Sequential(
            nn.Flatten(), nn.Linear(size, 12), nn.LayerNorm(12), nn.Tanh(), Rescale(12)
        )
        self.head = nn.Linear(12, classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class Rescale(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("scale", torch.rand(size) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


MODELS = ["linear", "mlp", "cnn", "test_bulk:Tanh", "test_training:DropoutNet"]


@settings
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [15, None], ids=["equal sizes", "unequal sizes"])
def test_models_trained_together_are_those_trained_one_by_one_on_their_instances(
    model: str, setting: dict, size: int | None
):
    data, masks, recipe = (
        random_data(30),
        random_masks(5, 30, size),
        recipe_of(model, **setting),
    )
    ensemble = train_many(data, masks, recipe, [3, 4, 4, 5, 6])
    test = random_data(4, seed=1)
    for k, (mask, seed) in enumerate(zip(masks, ensemble.seeds, strict=True)):
        want = train(data.take(mask), recipe, seed).model()
        for name, value in want.state_dict().items():
            torch.testing.assert_close(
                ensemble.state(k)[name], value, rtol=1e-10, atol=1e-10
            )
        torch.testing.assert_close(
            ensemble.logits(test)[k], predict(want, test.x), rtol=1e-9, atol=1e-10
        )


@pytest.mark.parametrize("trained", ["head", "all"])
@pytest.mark.parametrize("body", [True, False], ids=["fresh head", "pretrained head"])
def test_transfer_starts_from_the_pretrained_model_and_leaves_frozen_features_alone(
    trained: str, body: bool
):
    before = train(random_data(30, seed=2), recipe_of("cnn"), 0).checkpoints[-1].state
    start = Start(without_head(before) if body else before, trained)
    data, masks, test = random_data(30), random_masks(4, 30), random_data(4, seed=1)
    recipe = recipe_of("cnn", start=start)
    ensemble = train_many(data, masks, recipe, [3, 4, 4, 5])
    for k, (mask, seed) in enumerate(zip(masks, ensemble.seeds, strict=True)):
        want = train(data.take(mask), recipe, seed).model()
        assert ensemble.state(k).keys() == want.state_dict().keys()
        for name, value in want.state_dict().items():
            torch.testing.assert_close(
                ensemble.state(k)[name], value, rtol=1e-10, atol=1e-10
            )
        torch.testing.assert_close(
            ensemble.logits(test)[k], predict(want, test.x), rtol=1e-9, atol=1e-10
        )
    few = train_many(data, masks, recipe, [3, 4, 4, 5], points=test)
    torch.testing.assert_close(few.logits(), ensemble.logits(test))


@pytest.mark.parametrize("way", [Mapped, None], ids=["vmap", "one by one"])
@pytest.mark.parametrize(
    "model", ["mlp", "cnn", pytest.param("resnet9", marks=pytest.mark.slow)]
)
def test_every_way_gives_the_same_models(
    model: str, way: type[Mapped] | None, monkeypatch: pytest.MonkeyPatch
):
    """`vmap` over convolutions is what a GPU takes; here it is slow, but must be right."""
    data, masks = random_data(12), random_masks(2, 12, 8)
    recipe = recipe_of(model, epochs=1)
    for where in (bulk, asked):
        monkeypatch.setattr(where, "way_of", lambda *_: way)
    ensemble = train_many(data, masks, recipe, [3, 4], batches="full", convention="A")
    for k, mask in enumerate(masks):
        for name, value in paired_by_hand(data, mask, recipe, 3 + k, "A").items():
            torch.testing.assert_close(
                ensemble.state(k)[name], value, rtol=1e-9, atol=1e-10
            )
    alone = build(model, data.layout, 0).to(data.x)
    alone.load_state_dict(ensemble.state(1))
    torch.testing.assert_close(
        ensemble.logits(data)[1], predict(alone, data.x), rtol=1e-9, atol=1e-10
    )


def paired_by_hand(
    data: Dataset, mask: torch.Tensor, recipe: Recipe, seed: int, convention: str
) -> dict[str, torch.Tensor]:
    """The batches of the full run, the terms of absent instances deleted.

    The update rules are written out.
    """
    model = build(recipe.model, data.layout, seed).to(data.x)
    momentum = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    order = batch_order(len(data), recipe, seed)
    for rows, eta in zip(
        order, learning_rates(len(order), recipe).tolist(), strict=True
    ):
        rows = rows[rows >= 0]
        kept = rows[mask[rows]]
        loss = F.cross_entropy(model(data.x[kept]), data.y[kept], reduction="sum")
        loss = loss / max(1, len(rows) if convention == "A" else len(kept))
        grads = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(model.named_parameters(), grads, strict=True):
                g = g + recipe.weight_decay * p
                momentum[name] = recipe.momentum * momentum[name] + g
                p -= eta * (
                    g + recipe.momentum * momentum[name]
                    if recipe.nesterov
                    else momentum[name]
                )
    return {name: p.detach() for name, p in model.named_parameters()}


@settings
@pytest.mark.parametrize("convention", ["A", "B"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_paired_runs_walk_the_batches_of_the_full_run_without_the_absent(
    model: str, convention: str, setting: dict
):
    """With a subset of three instances most batches are empty."""
    data, masks, recipe = (
        random_data(30),
        random_masks(4, 30),
        recipe_of(model, **setting),
    )
    masks[0] = torch.arange(30) < 3
    ensemble = train_many(
        data, masks, recipe, [3, 3, 3, 4], batches="full", convention=convention
    )
    for k, (mask, seed) in enumerate(zip(masks, ensemble.seeds, strict=True)):
        for name, value in paired_by_hand(data, mask, recipe, seed, convention).items():
            torch.testing.assert_close(
                ensemble.state(k)[name], value, rtol=1e-10, atol=1e-10
            )


@pytest.mark.parametrize("batches", ["own", "full"])
@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_an_absent_instance_has_weight_exactly_0(model: str, batches: str):
    """Not even one of NaN pixels moves a bit."""
    data, masks = random_data(30), random_masks(4, 30)
    masks[:, 7] = False
    x = data.x.clone()
    x[7] = torch.nan
    a, b = (
        train_many(d, masks, recipe_of(model), [0, 1, 2, 3], batches=batches)
        for d in (data, Dataset(x, data.y, 10))
    )
    for k in range(4):
        assert all(
            torch.equal(value, b.state(k)[name]) for name, value in a.state(k).items()
        )


@pytest.mark.parametrize("batches", ["own", "full"])
def test_a_model_without_instances_is_the_untrained_one(batches: str):
    data, masks = random_data(10), torch.tensor([[True] * 10, [False] * 10])
    ensemble = train_many(data, masks, recipe_of("mlp"), [1, 2], batches=batches)
    want = build("mlp", data.layout, 2).to(data.x).state_dict()
    assert all(
        torch.equal(value, want[name]) for name, value in ensemble.state(1).items()
    )


@pytest.mark.parametrize("model", ["mlp", "cnn", "test_training:DropoutNet"])
def test_one_model_that_diverges_is_reported_and_leaves_the_others_alone(model: str):
    data, masks = random_data(30, dtype=torch.float32), random_masks(3, 30, 20)
    masks[1, 5], masks[0, 5], masks[2, 5] = True, False, False
    x = data.x.clone()
    x[5] = 1e38
    calm = train_many(data, masks[::2], recipe_of(model), [0, 2])
    with pytest.warns(UserWarning, match="1 of 3 models diverged, the first is 1"):
        ensemble = train_many(
            Dataset(x, data.y, 10), masks, recipe_of(model, lr=0.05), [0, 1, 2]
        )
    assert ensemble.diverged.tolist() == [False, True, False]
    test = random_data(4, seed=1, dtype=torch.float32)
    assert bool(ensemble.logits(test)[1].isnan().all())
    assert bool(ensemble.utility(test, "correct")[1].isnan().all())
    torch.testing.assert_close(ensemble.logits(test)[::2], calm.logits(test))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_predictions_alone_are_those_of_the_models(model: str):
    data, masks, test = random_data(30), random_masks(3, 30), random_data(4, seed=1)
    whole = train_many(data, masks, recipe_of(model), [0, 1, 2])
    few = train_many(data, masks, recipe_of(model), [0, 1, 2], points=test)
    torch.testing.assert_close(few.logits(), whole.logits(test))
    torch.testing.assert_close(
        few.utility(test, "margin"), utility(whole.logits(test), test.y, "margin")
    )
    with pytest.raises(ValueError, match="4 points alone"):
        few.logits(test)
    with pytest.raises(ValueError, match="name the points"):
        whole.logits()


def test_finished_blocks_are_found_again_and_another_job_finds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("poisonbench.training.many.blocks.LARGEST", 4)
    data, masks, seeds = random_data(30), random_masks(9, 30, 12), list(range(9))
    trained = []
    real = bulk._train_block
    monkeypatch.setattr(
        bulk, "_train_block", lambda *job: trained.append(1) or real(*job)
    )

    def count(**change: object) -> int:
        trained.clear()
        arguments = {
            "data": data,
            "masks": masks,
            "recipe": recipe_of("mlp"),
            "seeds": seeds,
            "scratch": tmp_path,
            **change,
        }
        got = train_many(**arguments)
        assert torch.equal(
            got.logits(data), train_many(**{**arguments, "scratch": None}).logits(data)
        )
        return len(trained) - len(got.parts)

    assert count() == 3
    assert count() == 0
    monkeypatch.setattr(cache, "RESIDENT", 0)
    assert count() == 0
    damaged, lost, *_ = sorted(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:1000])
    lost.unlink()
    assert count() == 2
    assert count(recipe=recipe_of("mlp", lr=0.06)) == 3
    assert count(seeds=[*range(8), 9]) == 1
    assert count(data=Dataset(data.x.flip(0), data.y, 10)) == 3
    assert count(batches="full") == 3
    start = Start(build("mlp", data.layout, 1).to(data.x).state_dict(), "head")
    assert count(recipe=recipe_of("mlp", start=start)) == 3
    assert count(recipe=recipe_of("mlp", start=replace(start, trained="all"))) == 3
    assert count(data=data.to(dtype=torch.float32)) == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"masks": torch.ones(2, 29, dtype=torch.bool)},
            r"\(K, 30\) bool.*got \(2, 29\)",
        ),
        ({"masks": torch.ones(2, 30)}, "bool.*float32"),
        ({"seeds": [1]}, "one per model, 2, got 1"),
        ({"batches": "all"}, "batches must be one of own, full, got 'all'"),
        ({"convention": "C"}, "convention must be one of A, B, got 'C'"),
    ],
)
def test_a_call_out_of_range_names_the_rule_and_the_value(change: dict, match: str):
    arguments = {
        "data": random_data(30),
        "masks": torch.ones(2, 30, dtype=torch.bool),
        "recipe": recipe_of("mlp"),
        "seeds": [1, 2],
    }
    with pytest.raises(ValueError, match=match):
        train_many(**{**arguments, **change})


def test_utilities_are_in_closed_form():
    logits = torch.tensor([[[2.0, 0.0, -1.0], [0.0, 3.0, 1.0]]], dtype=torch.float64)
    y = torch.tensor([0, 2])
    assert utility(logits, y, "correct").tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(
        utility(logits, y, "loss"),
        -F.cross_entropy(logits[0], y, reduction="none")[None],
    )
    p = logits.softmax(-1)[0, torch.arange(2), y]
    torch.testing.assert_close(utility(logits, y, "margin"), (p / (1 - p)).log()[None])
    assert bool(utility(logits * torch.nan, y, "correct").isnan().all())
    with pytest.raises(
        ValueError, match="measure must be one of loss, margin, correct, got 'accuracy'"
    ):
        utility(logits, y, "accuracy")


def test_bulk_training_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    for model in MODELS:
        train_many(random_data(20), random_masks(2, 20), recipe_of(model), [0, 1])
    assert torch.equal(torch.random.get_rng_state(), state)


FIT = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from conftest import random_data
from estimators.leave_one_out import LeaveOneOut
from poisonbench.training import Recipe, train
data = random_data(200, dtype=torch.float32)
trace = train(data, Recipe(model="mlp", epochs=8, batch_size=8, checkpoints=1), 0)
scorer = LeaveOneOut(repeats=2).fit(replace(trace, scratch=Path(sys.argv[1])))
scores = scorer(random_data(5, seed=1, dtype=torch.float32))
torch.save(scores, sys.argv[2])
"""


def fitting(scratch: Path, result: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", FIT, str(scratch), str(result)], env=environment
    )


@pytest.mark.slow
def test_a_killed_fit_goes_on_from_its_finished_blocks_to_the_same_bits(tmp_path: Path):
    scratch = tmp_path / "killed"
    process = fitting(scratch, tmp_path / "never.pt")
    end = time.monotonic() + 120
    while (
        len(list(scratch.glob("models-*.h5"))) < 2
        and process.poll() is None
        and time.monotonic() < end
    ):
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    before = {path: path.stat().st_mtime_ns for path in scratch.glob("models-*.h5")}
    assert fitting(scratch, tmp_path / "again.pt").wait(120) == 0
    assert fitting(tmp_path / "undisturbed", tmp_path / "want.pt").wait(120) == 0
    assert torch.equal(
        torch.load(tmp_path / "again.pt"), torch.load(tmp_path / "want.pt")
    )
    after = {path: path.stat().st_mtime_ns for path in scratch.iterdir()}
    assert 2 <= len(before) < len(after)
    assert all(after[path] == when for path, when in before.items()), (
        "a finished block was trained again"
    )
    assert {path.name for path in after} == {
        path.name for path in (tmp_path / "undisturbed").iterdir()
    }
