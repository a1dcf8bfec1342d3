"""Transfer: a pretrained start, frozen or fine-tuned.

The oracle of a frozen model is a linear one on its features.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import random_data
from test_estimators import ROWS
from torch import nn

from estimators.hydra import HyDRA
from estimators.kit.descent.modes import changing_layers
from estimators.tracin import TracIn
from experiments.plan.gridfile import read, resolved
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.spec import Scene
from experiments.runner.run import Options, run
from experiments.scene.clean import clean_data
from experiments.scene.victim import check_scene, make_victim
from poisonbench import log
from poisonbench.data import Dataset, Layout
from poisonbench.errors import ConfigError, DataError, LogError
from poisonbench.models import build, predict
from poisonbench.training import (
    Recipe,
    Start,
    replay,
    starting_model,
    train,
    without_head,
)
from poisonbench.training.trace import Trace

RECIPE = Recipe(
    model="mlp",
    epochs=3,
    batch_size=8,
    lr=0.02,
    momentum=0.5,
    weight_decay=0.01,
    checkpoints=3,
)
DATA = random_data(30, (6,), 3)


def pretrained(
    model: str = "mlp", data: Dataset = DATA, seed: int = 9
) -> dict[str, torch.Tensor]:
    return (
        train(data, dataclasses.replace(RECIPE, model=model), seed)
        .checkpoints[-1]
        .state
    )


@pytest.fixture(scope="module")
def frozen() -> Trace:
    return train(DATA, dataclasses.replace(RECIPE, start=Start(pretrained())), 0)


@pytest.fixture(scope="module")
def linear(frozen: Trace) -> Trace:
    """The same head, trained on the features as instances.

    From the same values (whatever the seed) on the same batches.
    """
    start = Start(
        {
            k: v
            for k, v in frozen.initial().state_dict().items()
            if k.startswith("head.")
        },
        "all",
    )
    return train(
        seen(frozen, DATA), dataclasses.replace(RECIPE, model="linear", start=start), 0
    )


def seen(trace: Trace, data: Dataset) -> Dataset:
    return Dataset(predict(trace.initial().features, data.x), data.y, data.classes)


def test_a_frozen_victim_keeps_its_features_and_trains_its_head_as_a_linear_model_on_them(
    frozen: Trace, linear: Trace
):
    start = without_head(frozen.recipe.start.state)
    for checkpoint, other in zip(frozen.checkpoints, linear.checkpoints, strict=True):
        assert all(
            torch.equal(checkpoint.state[name], value) for name, value in start.items()
        )
        for name in ("head.weight", "head.bias"):
            torch.testing.assert_close(
                checkpoint.state[name], other.state[name], rtol=1e-10, atol=1e-12
            )
    assert {
        name for name, p in frozen.model().named_parameters() if p.requires_grad
    } == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize("estimator", [*ROWS, TracIn(projection=7)], ids=repr)
def test_estimators_on_a_frozen_model_are_those_of_the_linear_model_on_its_features(
    estimator, frozen: Trace, linear: Trace
):
    test = random_data(5, (6,), 3, seed=1)
    got, want = estimator.fit(frozen)(test), estimator.fit(linear)(seen(frozen, test))
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-10)
    if estimator != HyDRA(hessian=True):
        torch.testing.assert_close(
            estimator.self_influence(frozen),
            estimator.self_influence(linear),
            rtol=1e-7,
            atol=1e-10,
        )


def test_fine_tuning_starts_from_the_pretrained_state_and_moves_all_of_it():
    state = pretrained()
    trace = train(DATA, dataclasses.replace(RECIPE, start=Start(state, "all")), 0)
    assert all(
        torch.equal(value, state[name])
        for name, value in trace.initial().state_dict().items()
    )
    assert not any(
        torch.equal(value, state[name])
        for name, value in trace.checkpoints[-1].state.items()
    )


def test_a_fresh_head_begins_as_the_seed_gives_it_and_a_kept_one_as_it_was():
    state, own = (
        pretrained(),
        build("mlp", Layout((6,), 3, "vector"), 4).double().state_dict(),
    )
    fresh = starting_model(
        dataclasses.replace(RECIPE, start=Start(without_head(state))), DATA, 4
    ).state_dict()
    kept = starting_model(
        dataclasses.replace(RECIPE, start=Start(state)), DATA, 4
    ).state_dict()
    assert torch.equal(fresh["head.weight"], own["head.weight"])
    assert torch.equal(kept["head.weight"], state["head.weight"])
    assert torch.equal(fresh["features.2.weight"], state["features.2.weight"])


def test_replay_of_a_frozen_run_is_bit_equal(frozen: Trace):
    states = {c.step: c.state for c in frozen.checkpoints[:-1]}
    for step in replay(frozen):
        want = states.pop(step.index, {})
        assert all(
            torch.equal(step.model.state_dict()[name], value)
            for name, value in want.items()
        )
    assert not states


class Moody(nn.Module):
    """Features with running statistics and dropout, which freezing must stop."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


def test_frozen_features_compute_in_training_as_in_evaluation():
    recipe = dataclasses.replace(RECIPE, model="test_transfer:Moody")
    state = train(DATA, recipe, 9).checkpoints[-1].state
    trace = train(
        DATA, dataclasses.replace(recipe, start=Start(without_head(state))), 0
    )
    assert all(
        torch.equal(trace.checkpoints[-1].state[name], value)
        for name, value in without_head(state).items()
    )
    assert changing_layers(trace) == []
    assert HyDRA(hessian=True).fit(trace)(DATA).isfinite().all()
    assert (
        changing_layers(
            train(DATA, dataclasses.replace(recipe, start=Start(state, "all")), 0)
        )
        != []
    )


def test_starts_are_equal_when_they_train_alike_and_stay_out_of_the_repr():
    state = pretrained()
    a, b = Start(state), Start({k: v.clone() for k, v in reversed(state.items())})
    assert a == b
    assert hash(a) == hash(b)
    assert a != Start(state, "all")
    assert a != Start({**state, "head.bias": state["head.bias"] + 1})
    assert repr(dataclasses.replace(RECIPE, start=a)) == repr(RECIPE)
    assert dataclasses.replace(RECIPE, start=a) != RECIPE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: {**s, "features.9.weight": s["head.bias"]},
            "holds 'features.9.weight', which the model lacks",
        ),
        (
            lambda s: {**s, "head.bias": torch.zeros(4)},
            r"'head.bias' of shape \(4,\), the model's is \(3,\)",
        ),
        (
            lambda s: {k: v for k, v in s.items() if k != "features.2.bias"},
            "lacks 'features.2.bias'",
        ),
        (
            lambda s: {k: v for k, v in s.items() if k != "head.bias"},
            "lacks 'head.bias'",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        train(DATA, dataclasses.replace(RECIPE, start=Start(change(pretrained()))), 0)
    with pytest.raises(
        ValueError, match="trained must be one of head, all, got 'tail'"
    ):
        Start({}, "tail")


# --- scenes and grids ---

GRID = {
    "dataset": {"name": "digits", "train": 200},
    "recipe": {"model": "mlp", "epochs": 2, "batch_size": 32},
    "transfer": {"rows": 300, "epochs": 3},
    "attack": [{"name": "patch", "budget": 0.05}],
    "probe": {"attacked": 10, "controls": 10, "calibration": 20},
}


def scene_of(raw: dict, **change: object) -> Scene:
    return parse({**raw, **change}).scenes[0]


def test_pretraining_rows_are_disjoint_from_those_of_the_victim(tmp_path: Path, digits):
    data = clean_data(scene_of(GRID), Place(tmp_path))
    assert (len(data.pretraining), len(data.train)) == (300, 200)
    rows = [
        tuple(x.flatten().tolist())
        for part in (data.pretraining, data.train)
        for x in part.x
    ]
    assert len(set(rows)) == len(
        {
            tuple(x.flatten().tolist())
            for x in torch.cat([data.pretraining.x, data.train.x])
        }
    )
    assert not set(rows[:300]) & set(rows[300:])
    whole = clean_data(scene_of({**GRID, "dataset": "digits"}), Place(tmp_path))
    assert len(whole.train) + 300 == len(digits[0])


def test_a_scene_in_transfer_is_resumed_from_its_log_and_holds_the_frozen_features_once(
    tmp_path: Path,
):
    scene, place = scene_of(GRID), Place(tmp_path)
    made, again = make_victim(scene, place), make_victim(scene, place)
    assert made.trace.recipe == again.trace.recipe
    assert made.trace.recipe.start is not None
    for a, b in zip(made.trace.checkpoints, again.trace.checkpoints, strict=True):
        assert a.state.keys() == b.state.keys()
        assert all(torch.equal(value, b.state[name]) for name, value in a.state.items())
    assert torch.equal(made.probe.predicted, again.probe.predicted)
    record = log.read(place.scene(scene) / "trace.h5", "trace")
    assert record.text("start/sha256") == made.trace.recipe.start.digest
    assert not [
        key
        for key in record.data
        if key.startswith("checkpoints/") and "features" in key
    ]
    assert log.read(place.scene(scene) / "scene.h5").config["transfer"]["rows"] == 300


def test_a_start_whose_bytes_changed_is_refused(tmp_path: Path):
    scene, place = scene_of(GRID), Place(tmp_path)
    make_victim(scene, place)
    path = place.scene(scene) / "trace.h5"
    record = log.read(path)
    data = {
        **record.data,
        "start/state/features.2.bias": record.data["start/state/features.2.bias"] + 1,
    }
    log.write(path, "trace", config=record.config, data=data)
    with pytest.raises(LogError, match="start does not have the sha256"):
        make_victim(scene, place)


@pytest.mark.parametrize("kind", ["trace.h5", "model.pt"])
def test_a_given_state_is_the_start(kind: str, tmp_path: Path):
    first = make_victim(
        scene_of(GRID, transfer={"rows": 300}), Place(tmp_path / "first")
    )
    final, path = first.trace.checkpoints[-1].state, tmp_path / kind
    if kind == "model.pt":
        torch.save(final, path)
    else:
        next((tmp_path / "first").glob("scenes/*/trace.h5")).rename(path)
    scene = scene_of(
        GRID, transfer={"state": str(path), "keep_head": True, "trained": "all"}
    )
    start = make_victim(scene, Place(tmp_path / "second")).trace.recipe.start
    assert start == Start(final, "all")
    assert "state" not in scene.config["transfer"]
    assert len(scene.config["transfer"]["sha256"]) == 64


def test_what_does_not_fit_is_told_before_anything_is_trained(tmp_path: Path):
    torch.save(
        build("cnn", Layout((1, 8, 8), 10, "image"), 0).state_dict(),
        tmp_path / "cnn.pt",
    )
    torch.save([1], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("no")
    for name, message in (
        ("cnn.pt", "which the model lacks"),
        ("list.pt", "no state dict"),
        ("text.pt", "cannot be read"),
    ):
        scene = scene_of(GRID, transfer={"state": str(tmp_path / name)})
        with pytest.raises(ConfigError, match=message):
            check_scene(scene, Place(tmp_path))
    with pytest.raises(DataError, match=r"transfer\.rows must be below 1297"):
        run(
            parse({**GRID, "transfer": {"rows": 1297}}),
            Place(tmp_path / "run"),
            Options(workers=0),
        )
    with pytest.raises(DataError, match="a subset of 200 rows cannot be drawn from 97"):
        run(
            parse({**GRID, "transfer": {"rows": 1200}}),
            Place(tmp_path / "run"),
            Options(workers=0),
        )
    assert not list((tmp_path / "run").glob("scenes/*"))


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({}, "transfer: needs rows"),
        ({"rows": -1}, "rows must be at least 0, got -1"),
        (
            {"rows": 10, "trained": "tail"},
            "transfer.trained: input should be 'head' or 'all'",
        ),
        ({"rows": 10, "epochs": 0}, "epochs must be at least 1, got 0"),
        ({"rows": 10, "lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"rows": 10, "sha256": "0"}, "transfer.sha256: unknown key"),
        ({"state": "no-such-file.h5"}, "'no-such-file.h5' in .*: No such file"),
        ({"state": __file__, "rows": 10}, "is not pretrained"),
    ],
)
def test_a_wrong_transfer_table_is_told_with_its_key(transfer: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        parse({**GRID, "transfer": transfer})


@pytest.mark.parametrize("rows", [[0, 300], [300, 0]])
def test_no_rows_is_training_from_scratch_and_the_resolved_grid_says_the_same(
    rows: list[int], tmp_path: Path
):
    grid = parse({**GRID, "transfer": {"rows": rows, "trained": "all"}})
    assert [scene.transfer and scene.transfer.rows for scene in grid.scenes] == [
        row or None for row in rows
    ]
    alone = {key: value for key, value in GRID.items() if key != "transfer"}
    scratch = grid.scenes[rows.index(0)]
    assert scratch == scene_of(alone)
    assert "transfer" not in scratch.config
    (tmp_path / "grid.toml").write_text(resolved(grid))
    assert parse(read(tmp_path / "grid.toml")) == grid
    with pytest.raises(ConfigError, match="unknown key"):
        parse({**GRID, "recipe": {"start": {}}})
