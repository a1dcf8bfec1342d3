"""Poison that travels: a file gives back what the attack had returned, bit for bit.

To the data set of its origin alone.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import random_data

import experiments.scene.victim
from attacks import Blend, LabelFlip, NoAttack, Patch
from attacks.file import File
from attacks.kit.rows import poison_in_place
from experiments.cli import main
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.contracts.attack_rules import craft
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, join
from poisonbench.errors import ConfigError, DataError, LogError, PoisonError
from poisonbench.poison_file import fingerprint, read_poison, write_poison
from poisonbench.roles import COVER, POISON
from poisonbench.training import Recipe
from tests.small_data import small_data

QUICK = Recipe(model="linear", epochs=2)
CLEAN = (
    random_data(60, (2, 6, 5), 4, dtype=torch.float32),
    random_data(30, (2, 6, 5), 4, seed=1, dtype=torch.float32),
)
ABOUT = {
    "scene": {"dataset": {"name": "random", "train": None, "test": 30}, "seed": 7},
    "claims": {"budget": 0.1},
    "targets": "all",
}


@dataclasses.dataclass(frozen=True)
class Grown:
    """New, removed and shuffled rows, a cover row, and a target from nowhere."""

    budget = 5 / 60
    cover = 1 / 60

    def __call__(
        self, train: Dataset, test: Dataset, recipe: Recipe, seed: int
    ) -> Poisoned:
        keep = torch.arange(57).flip(0)
        new = Dataset(train.x[:2] / 3, torch.tensor([1, 2]), 4)
        role = torch.zeros(59, dtype=torch.uint8)
        role[5], role[57:] = COVER, POISON
        data = join([train.take(keep), new])
        data.x[5] = 1 - data.x[5]
        origin = torch.cat([keep, torch.tensor([-1, -1])])
        targets = Dataset(1 - test.x[:2], test.y[:2], 4)
        return Poisoned(
            data, role, origin, targets, (test.y[:2] + 1) % 4, torch.tensor([0, -1])
        )


def tensors(p: Poisoned) -> list[torch.Tensor]:
    return [
        p.train.x,
        p.train.y,
        p.role,
        p.origin,
        p.targets.x,
        p.targets.y,
        p.wanted,
        p.target_origin,
    ]


def same(a: Poisoned, b: Poisoned) -> bool:
    pairs = list(zip(tensors(a), tensors(b), strict=True))
    return (
        all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)
        and a.train.classes == b.train.classes
    )


def write(
    path: Path, attack: object = Patch(budget=0.1), about: dict = ABOUT
) -> Poisoned:
    poisoned = craft(attack, *CLEAN, QUICK, 3)
    write_poison(path, poisoned, *CLEAN, about)
    return poisoned


@pytest.mark.parametrize(
    "attack",
    [
        Patch(budget=0.1),
        Blend(),
        LabelFlip("neighbour", budget=2 / 60, neighbours=2),
        LabelFlip(),
        NoAttack(),
        Grown(),
    ],
    ids=repr,
)
def test_what_is_read_is_what_the_attack_returned_bit_for_bit(
    attack: object, tmp_path: Path
):
    poisoned = write(tmp_path / "p.h5", attack, {**ABOUT, "claims": {}})
    assert same(read_poison(tmp_path / "p.h5", *CLEAN), poisoned)
    again = craft(File(str(tmp_path / "p.h5")), *CLEAN, Recipe(model="cnn"), 99)
    assert same(again, poisoned), (
        "the recipe or the seed of the replay moved the poison"
    )


def test_float64_data_get_the_values_of_a_float32_file_and_never_the_other_way_with_rounding(
    tmp_path: Path,
):
    poisoned = write(tmp_path / "p.h5")
    wide = [part.to(dtype=torch.float64) for part in CLEAN]
    assert torch.equal(
        read_poison(tmp_path / "p.h5", *wide).train.x, poisoned.train.x.double()
    )
    write_poison(
        tmp_path / "w.h5",
        craft(Blend(alpha=1 / 3), *wide, QUICK, 0),
        *wide,
        {**ABOUT, "claims": {}},
    )
    with pytest.raises(
        LogError,
        match=r"values are torch.float64, which torch.float32 cannot hold without rounding",
    ):
        read_poison(tmp_path / "w.h5", *CLEAN)


def test_a_fingerprint_tells_values_labels_shape_and_classes_apart_but_not_float_types():
    data = CLEAN[0]
    other = [
        Dataset(data.x.clone().index_fill_(0, torch.tensor([3]), 0.25), data.y, 4),
        data.relabel((data.y + 1) % 4),
        Dataset(data.x.transpose(2, 3).contiguous(), data.y, 4),
        Dataset(data.x.view(60, 2, 5, 6), data.y, 4),
        Dataset(data.x, data.y, 5),
        data.take(torch.arange(59)),
        data.take(torch.arange(60).flip(0)),
    ]
    assert len({fingerprint(part) for part in [data, *other]}) == len(other) + 1
    assert (
        fingerprint(data.to(dtype=torch.float64))
        == fingerprint(data.take(torch.arange(60)))
        == fingerprint(data)
    )


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train", lambda train, test: (train.take(torch.arange(59)), test)),
        ("train", lambda train, test: (train.relabel((train.y + 1) % 4), test)),
        ("train", lambda train, test: (Dataset(train.x, train.y, 9), test)),
        (
            "train",
            lambda train, test: (Dataset(train.x, train.y.clamp(max=2), 3), test),
        ),
        ("test", lambda train, test: (train, test.take(torch.arange(30).flip(0)))),
    ],
    ids=[
        "fewer rows",
        "other labels",
        "more classes",
        "fewer classes",
        "another order",
    ],
)
def test_another_data_set_is_refused_with_both_hashes_and_the_way_out(
    name: str, change: Callable, tmp_path: Path
):
    write(tmp_path / "p.h5")
    data = change(*CLEAN)
    with pytest.raises(
        DataError, match=f"poison fits only the {name} set that it was made from"
    ) as error:
        File(str(tmp_path / "p.h5"))(*data, QUICK, 0)
    part = name == "test"
    assert fingerprint(CLEAN[part]) in error.value.message
    assert fingerprint(data[part]) in error.value.message
    assert (
        'dataset = {name = "random", test = 30}, seeds = [7]; the seed draws subsets'
        in error.value.hint
    )


def shifted(row: int, by: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        out = array.copy()
        out[row] += by
        return out

    return change


@pytest.mark.parametrize(
    ("key", "change", "error", "message"),
    [
        (
            "poison/y",
            lambda y: np.full_like(y, 4),
            PoisonError,
            "label: a label of train is outside",
        ),
        ("poison/y", shifted(0, -9), PoisonError, "label: "),
        (
            "poison/y",
            lambda y: y[:-1],
            LogError,
            "changed rows are not those that it names",
        ),
        (
            "poison/y",
            lambda y: y.astype(np.float32),
            LogError,
            "'poison/y' is torch.float32",
        ),
        ("poison/x", lambda x: x[:-1], LogError, "changed rows are not those"),
        ("poison/x", lambda x: x[:, :1], LogError, "do not fit the data set"),
        ("poison/x", lambda x: x * 0 + 2, PoisonError, "range: "),
        ("poison/x", lambda x: x * np.nan, PoisonError, "finite: "),
        (
            "poison/x",
            lambda x: x.astype(np.int64),
            LogError,
            "its values are torch.int64",
        ),
        ("poison/rows", shifted(-1, 1000), LogError, "changed rows are not those"),
        ("poison/rows", shifted(0, -1000), LogError, "changed rows are not those"),
        ("poison/rows", lambda rows: rows * 0, LogError, "changed rows are not those"),
        (
            "poison/rows",
            lambda rows: (rows + 1) % 60,
            PoisonError,
            "clean: a clean row was changed",
        ),
        (
            "poison/origin",
            shifted(4, 1),
            PoisonError,
            "origin: a clean training row is used twice",
        ),
        ("poison/origin", shifted(4, 1000), LogError, "do not fit the data set"),
        ("poison/origin", shifted(4, -1000), LogError, "do not fit the data set"),
        (
            "poison/origin",
            lambda origin: origin[:0],
            LogError,
            "do not fit the data set",
        ),
        (
            "poison/origin",
            lambda origin: origin * 0 - 1,
            LogError,
            "changed rows are not those",
        ),
        ("poison/role", lambda role: role * 0, PoisonError, "clean: "),
        (
            "poison/role",
            lambda role: role * 0 + 1,
            PoisonError,
            "budget: 60 poison rows",
        ),
        ("poison/role", lambda role: role[:-1], LogError, "changed rows are not those"),
        ("poison/role", None, LogError, "has no data set 'poison/role'"),
        (
            "targets/wanted",
            lambda wanted: wanted * 0 + 5,
            PoisonError,
            "label: a wanted label",
        ),
        ("targets/wanted", lambda wanted: wanted[:1], PoisonError, "shape: wanted"),
        ("targets/y", shifted(0, 1), PoisonError, "true-label: "),
        ("targets/y", lambda y: y[:-1], LogError, "attacked points and"),
        (
            "targets/x",
            lambda x: x[:, :, :2],
            PoisonError,
            "shape: instances of targets",
        ),
        (
            "targets/origin",
            lambda origin: origin + 1000,
            PoisonError,
            "origin: target_origin is outside",
        ),
        ("targets/origin", None, LogError, "has no data set 'targets/origin'"),
    ],
)
def test_a_mutated_file_is_refused(
    key: str,
    change: Callable | None,
    error: type[Exception],
    message: str,
    tmp_path: Path,
):
    write(tmp_path / "p.h5")
    record = log.read(tmp_path / "p.h5")
    data = {name: value for name, value in record.data.items() if name != key}
    if change is not None:
        data[key] = change(record.data[key])
    log.write(tmp_path / "p.h5", "poison", config=record.config, data=data)
    with pytest.raises(error, match=message):
        craft(File(str(tmp_path / "p.h5")), *CLEAN, QUICK, 0)


@pytest.mark.parametrize(
    ("claims", "error", "message"),
    [
        (
            {"budget": 0.02},
            PoisonError,
            "budget: 6 poison rows, 1 are paid for by budget 0.02",
        ),
        ({"clean_label": True}, PoisonError, "clean-label: "),
        ({"budget": -1}, LogError, "claim 'budget' is -1"),
        ({"eps": -0.5}, LogError, "claim 'eps' is -0.5, no number of 0 or more"),
        ({"eps": float("inf")}, LogError, "claim 'eps' is inf"),
        ({"cover": 1.25}, LogError, r"claim 'cover' is 1.25, no number in \[0, 1\]"),
        ({"budget": float("nan")}, LogError, "claim 'budget' is nan"),
        ({"budget": "1", "cover": [], "__class__": 1}, None, ""),
    ],
)
def test_a_file_is_held_to_what_it_claims(
    claims: dict, error: type[Exception] | None, message: str, tmp_path: Path
):
    poisoned = write(tmp_path / "p.h5", about={**ABOUT, "claims": claims})
    if error is None:
        assert same(read_poison(tmp_path / "p.h5", *CLEAN), poisoned)
        return
    with pytest.raises(error, match=message):
        read_poison(tmp_path / "p.h5", *CLEAN)


@pytest.mark.parametrize(
    ("kind", "eps", "change"),
    [
        ("tokens", 2, lambda x: x.index_fill(1, torch.tensor([0, 1]), 2)),
        ("vector", 3.0, lambda x: x + 3.0),
    ],
    ids=["tokens", "vector"],
)
def test_a_radius_above_one_is_a_claim_like_any_other(
    kind: str, eps: float, change: Callable, tmp_path: Path
):
    """Of words that differ in a sentence, or of numbers that are no pixels."""
    clean, test = small_data(kind)
    longest = (clean.x != 0).sum(1).argmax()[None]
    moved = change(clean.x[longest])
    poisoned = poison_in_place(clean, test, rows=longest, x=moved)
    path = tmp_path / "p.h5"
    about = {**ABOUT, "claims": {"eps": eps}}
    write_poison(path, poisoned, clean, test, about)
    assert same(read_poison(path, clean, test), poisoned)
    about = {**ABOUT, "claims": {"eps": eps / 3}}
    write_poison(path, poisoned, clean, test, about)
    with pytest.raises(PoisonError, match="eps: "):
        read_poison(path, clean, test)


def test_a_configuration_that_names_no_data_set_is_refused(tmp_path: Path):
    write(tmp_path / "p.h5")
    record = log.read(tmp_path / "p.h5")
    for part in ("data", "scene"):
        config = {**record.config, part: [1]}
        log.write(tmp_path / "q.h5", "poison", config=config, data=record.data)
        with pytest.raises(LogError, match="does not name the data set"):
            read_poison(tmp_path / "q.h5", *CLEAN)
    log.write(
        tmp_path / "q.h5",
        "poison",
        config={**record.config, "data": {"train": "\x1b[31m"}},
        data=record.data,
    )
    with pytest.raises(DataError) as error:
        read_poison(tmp_path / "q.h5", *CLEAN)
    assert error.value.message.isprintable()


def test_the_configuration_of_a_replay_holds_the_hash_of_its_file(tmp_path: Path):
    path = tmp_path / "p.h5"
    write(path)
    first = File(str(path))
    scene = parse({"attack": [{"name": "file", "path": str(path)}]}).scenes[0]
    assert scene.attack.config == {
        "name": "file",
        "path": str(path),
        "sha256": first.sha256,
        "budget": None,
    }
    write(path, Blend(), {**ABOUT, "claims": {}})
    assert (
        parse({"attack": [{"name": "file", "path": str(path)}]}).scenes[0].id
        != scene.id
    )
    with pytest.raises(
        ConfigError, match=f"another file than the grid names: .*, not {first.sha256}"
    ):
        first(*CLEAN, QUICK, 0)
    path.unlink()
    assert File(str(path), first.sha256) == first, (
        "status and evaluate do not need the file"
    )
    with pytest.raises(ConfigError, match="No such file"):
        first(*CLEAN, QUICK, 0)


def test_a_budget_of_ones_own_is_enforced(tmp_path: Path):
    write(tmp_path / "p.h5")
    assert same(
        craft(File(str(tmp_path / "p.h5"), budget=0.1), *CLEAN, QUICK, 0),
        craft(Patch(budget=0.1), *CLEAN, QUICK, 3),
    )
    with pytest.raises(
        PoisonError, match=r"budget: 6 poison rows, 3 are paid for by budget 0\.05"
    ):
        craft(File(str(tmp_path / "p.h5"), budget=0.05), *CLEAN, QUICK, 0)


def test_what_is_no_poison_file_is_refused_when_the_grid_is_read(tmp_path: Path):
    (tmp_path / "text.h5").write_text("poison")
    log.write(tmp_path / "scene.h5", "scene", config={}, data={"x": np.zeros(3)})
    cases = {
        "does not exist": {"path": str(tmp_path / "absent.h5")},
        "no HDF5 file": {"path": str(tmp_path / "text.h5")},
        "of kind 'scene'": {"path": str(tmp_path / "scene.h5")},
        "no regular file": {"path": ""},
        "is missing and has no default": {},
        "64 hex digits, got '12'": {"path": "x", "sha256": "12"},
        "budget must lie in (0, 1), got 2.0": {"path": "x", "budget": 2.0},
    }
    with pytest.raises(ConfigError) as error:
        parse({"attack": [{"name": "file", **case} for case in cases.values()]})
    assert len(error.value.errors) == len(cases)
    for fault, part in zip(error.value.errors, cases, strict=True):
        assert part in fault


# --- through the command line ---

SCENE = {
    "dataset": {"name": "digits", "train": 200, "test": 150},
    "recipe": {"model": "linear", "epochs": 2, "checkpoints": 2},
    "probe": {"attacked": 10, "controls": 20, "calibration": 20},
}
SURROGATE = {"model": "linear", "epochs": 2}
ATTACKS = [
    {"name": "patch", "budget": 0.05},
    {"name": "toy_attack:Invert"},
    {"name": "label-consistent", "budget": 0.05, "steps": 2, "surrogate": SURROGATE},
    {"name": "hidden-trigger", "budget": 0.05, "steps": 2, "source": "none"},
]


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Finished scenes of attacks of the table.

    One with a recipe among its fields, and one from outside the tree.
    """
    folder, grid = (
        tmp_path_factory.mktemp("export"),
        parse({**SCENE, "attack": ATTACKS}),
    )
    assert run(grid, Place(folder), Options(workers=0)).done == len(ATTACKS)
    return [Place(folder).scene(scene) for scene in grid.scenes]


@pytest.mark.parametrize(
    "index", range(len(ATTACKS)), ids=[attack["name"] for attack in ATTACKS]
)
def test_poison_exported_from_a_run_is_the_same_under_another_recipe(
    index: int, scenes: list[Path], tmp_path: Path
):
    path, source = tmp_path / "poison.h5", scenes[index]
    result = call("export", source, "-o", path)
    assert result.exit_code == 0, result.output
    assert "10 poison rows of 200" in result.output
    grid = parse(
        {
            **SCENE,
            "recipe": {"model": "mlp", "epochs": 1},
            "attack": [{"name": "file", "path": str(path)}],
        }
    )
    assert run(grid, Place(tmp_path / "logs"), Options(workers=0)).done == 1
    before, after = (
        log.read(source / "scene.h5"),
        log.read(Place(tmp_path / "logs").scene(grid.scenes[0]) / "scene.h5"),
    )
    kept = [
        key
        for key in before.data
        if key.startswith("poison/")
        or key in ("targets/y", "targets/wanted", "targets/origin")
    ]
    assert len(kept) == 8
    for key in kept:
        assert before.data[key].tobytes() == after.data[key].tobytes(), key
    file = log.read(path)
    assert (
        len(file.data["targets/x"])
        == len(before.data["targets/y"])
        > 100
        > 10
        == int((before.data["probe/group"] == 0).sum())
    )
    assert file.config["scene"] == before.config
    assert file.config["claims"]["budget"] == 0.05
    # the replay can be exported in turn, and holds the same
    assert (
        call(
            "export",
            Place(tmp_path / "logs").scene(grid.scenes[0]) / "scene.h5",
            "-o",
            tmp_path / "again.h5",
        ).exit_code
        == 0
    )
    again = log.read(tmp_path / "again.h5")
    assert all(
        file.data[key].tobytes() == again.data[key].tobytes() for key in file.data
    )


def test_poison_of_the_transfer_setting_fits_the_rows_left_for_the_victim_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    attack = {
        "name": "label-flip",
        "mode": "neighbour",
        "budget": 0.04,
        "neighbours": 8,
    }
    grid = parse({**SCENE, "transfer": {"rows": 300, "epochs": 2}, "attack": [attack]})
    assert run(grid, Place(tmp_path), Options(workers=0)).done == 1
    source = Place(tmp_path).scene(grid.scenes[0])
    monkeypatch.setattr(
        experiments.scene.victim,
        "make_start",
        lambda *args: pytest.fail("pretrained again"),
    )
    result = call("export", source, "-o", tmp_path / "p.h5")
    assert result.exit_code == 0, result.output
    monkeypatch.undo()
    replay = [{"name": "file", "path": str(tmp_path / "p.h5")}]
    for change, done in (({"transfer": {"rows": 300, "trained": "all"}}, 1), ({}, 0)):
        summary = run(
            parse({**SCENE, "attack": replay, **change}),
            Place(tmp_path / f"logs{done}"),
            Options(workers=0),
        )
        assert summary.done == done
    assert "transfer = {rows = 300}" in summary.failed[0], (
        "other rows are left for the victim: another training set"
    )


def test_a_mutated_replay_fails_its_cell_before_anything_is_trained(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "poison.h5"
    assert call("export", scenes[0], "-o", path).exit_code == 0
    monkeypatch.setattr(
        experiments.scene.victim, "train", lambda *args: pytest.fail("trained")
    )
    for change in (
        {"dataset": {"name": "digits", "train": 201, "test": 150}},
        {"seeds": [1]},
    ):
        grid = parse(
            {**SCENE, "attack": [{"name": "file", "path": str(path)}], **change}
        )
        summary = run(
            grid, Place(tmp_path / f"logs-{len(str(change))}"), Options(workers=0)
        )
        assert summary.done == 0
        assert "poison fits only the train set" in summary.failed[0]


def without_kept_points(scene: Path, folder: Path) -> Path:
    """A scene's log that keeps the attacked points of its probe alone."""
    record = log.read(scene / "scene.h5")
    data = {
        k: v
        for k, v in record.data.items()
        if k not in ("targets/kept", "targets/bits")
    }
    log.write(folder / "s.h5", "scene", config=record.config, data=data)
    return folder / "s.h5"


def test_a_log_that_keeps_a_part_of_the_attacked_points_is_exported_with_these_and_says_so(
    scenes: list[Path], tmp_path: Path
):
    source = without_kept_points(scenes[0], tmp_path)
    strict = call("export", source, "-o", tmp_path / "p.h5", "--targets", "all")
    assert strict.exit_code == 2
    assert "the log keeps 10 of 134 attacked points" in strict.stderr
    assert "--targets auto" in strict.stderr
    assert not (tmp_path / "p.h5").exists()
    result = call("export", source, "-o", tmp_path / "p.h5")
    assert result.exit_code == 0
    assert "10 of 134 attacked points" in result.stdout
    assert "Warning: " in result.stderr
    scene, file = log.read(source), log.read(tmp_path / "p.h5")
    assert file.config["targets"] == "kept"
    assert scene.data["poison/x"].tobytes() == file.data["poison/x"].tobytes()
    probe = scene.data["probe/x"][scene.data["probe/group"] == 0]
    assert file.data["targets/x"].tobytes() == probe.tobytes()


@pytest.mark.parametrize("targets", ["auto", "all", "probe"])
def test_an_export_never_runs_the_attack(
    targets: str, scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Patch, "__call__", lambda *args: pytest.fail("attacked"))
    result = call(
        "export", scenes[0] / "scene.h5", "-o", tmp_path / "p.h5", "--targets", targets
    )
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert ("10 of 134 attacked points" in result.stdout) == (targets == "probe")


def test_an_attack_that_is_gone_costs_no_point(scenes: list[Path], tmp_path: Path):
    record = log.read(scenes[0] / "scene.h5")
    attack = {"name": "gone:Attack", "budget": 0.05}
    log.write(
        tmp_path / "s.h5",
        "scene",
        config={**record.config, "attack": attack},
        data=record.data,
    )
    result = call("export", tmp_path / "s.h5", "-o", tmp_path / "p.h5")
    assert result.exit_code == 0
    assert result.stderr == ""
    file = log.read(tmp_path / "p.h5")
    assert file.config["claims"] == {"budget": 0.05}
    assert len(file.data["targets/y"]) == len(record.data["targets/y"])


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda scene, folder: folder / "absent", 3, "does not exist"),
        (lambda scene, folder: next(scene.glob("trace.h5")), 3, "of kind 'trace'"),
        (
            lambda scene, folder: changed(
                scene, folder, config={"dataset": {"name": "digitz"}}
            ),
            2,
            "did you mean 'digits'?",
        ),
        (
            lambda scene, folder: changed(scene, folder, config={"seed": "x"}),
            2,
            "seeds: ",
        ),
        (
            lambda scene, folder: changed(
                scene, folder, config={"recipe": {"lr": [0.1, 0.2]}}
            ),
            2,
            "that of 2 scenes",
        ),
        (
            lambda scene, folder: changed(scene, folder, drop="poison/role"),
            3,
            "has no data set 'poison/role'",
        ),
    ],
    ids=["absent", "another kind", "data set", "seed", "axis", "lacking"],
)
def test_a_scene_that_cannot_be_exported_is_refused_with_its_reason(
    make: Callable, code: int, message: str, scenes: list[Path], tmp_path: Path
):
    result = call("export", make(scenes[0], tmp_path), "-o", tmp_path / "p.h5")
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "p.h5").exists()


def changed(
    scene: Path, folder: Path, config: dict | None = None, drop: str = ""
) -> Path:
    record = log.read(scene / "scene.h5")
    data = {key: value for key, value in record.data.items() if key != drop}
    log.write(
        folder / "s.h5", "scene", config={**record.config, **(config or {})}, data=data
    )
    return folder / "s.h5"


def test_no_file_is_overwritten(scenes: list[Path], tmp_path: Path):
    (tmp_path / "p.h5").write_text("mine")
    result = call("export", scenes[0], "-o", tmp_path / "p.h5")
    assert result.exit_code == 2
    assert "is there already" in result.stderr
    assert (tmp_path / "p.h5").read_text() == "mine"


def test_show_tells_where_poison_comes_from(scenes: list[Path], tmp_path: Path):
    assert call("export", scenes[0], "-o", tmp_path / "p.h5").exit_code == 0
    text = call("show", tmp_path / "p.h5").output
    for part in (
        "kind: poison",
        '"sha256"',
        '"patch"',
        "poison/x",
        "targets/x",
        json.dumps("claims"),
    ):
        assert part in text
