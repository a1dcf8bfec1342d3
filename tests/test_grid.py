"""Grid files: axes, defaults, identity, and every fault at once."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attacks import ATTACKS
from experiments.plan.gridfile import read, resolved, with_overrides
from experiments.plan.identity import canonical, identifier
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.stages import stages_of
from poisonbench.errors import ConfigError

GRIDS = Path(__file__).parent.parent / "experiments" / "grids"
BASE = {"attack": [{"name": "none"}]}


def faults(raw: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw)
    return caught.value.errors


def test_lists_are_axes_and_scenes_their_product():
    grid = parse(
        {
            "seeds": [0, 1, 2],
            "dataset": ["digits", {"name": "digits", "train": 500}],
            "recipe": {"lr": [0.1, 0.05]},
            "attack": [{"name": "patch", "budget": [0.01, 0.05]}, {"name": "none"}],
        }
    )
    assert len(grid.scenes) == 3 * 2 * 2 * 3
    assert len({scene.id for scene in grid.scenes}) == len(grid.scenes)
    assert {s.attack.value.budget for s in grid.scenes if s.attack.name == "patch"} == {
        0.01,
        0.05,
    }


def test_a_detector_that_reads_scores_which_an_estimator_leaves_out_is_refused():
    by_label = {"name": "gas", "scope": "label"}
    grid = {**BASE, "estimator": [{"name": "tracin"}, by_label]}
    known = {"name": "tail-heaviness"}
    assert parse({**grid, "detector": [known, {"name": "strip"}]}).applied
    [fault] = faults({**grid, "detector": [known, {**known, "scope": "all"}]})
    assert fault.startswith("detector: TailHeaviness reads the influence of every")
    assert "GAS gives that of the training rows that carry a point's label" in fault


def test_a_mitigation_that_names_another_estimator_is_not_refused():
    by_label = {"name": "gas", "scope": "label"}
    raw = {**BASE, "estimator": [{"name": "tracin"}, by_label]}
    group = {"name": "top", "estimator": "tracin"}
    assert parse({**raw, "group": [group]}).applied
    [fault] = faults({**raw, "group": [{"name": "top"}]})
    assert fault.startswith("group: ")


def test_the_same_configuration_written_twice_is_one_scene():
    grid = parse(
        {
            "attack": [
                {"name": "patch"},
                {"name": "patch", "budget": ATTACKS["patch"]().budget},
            ],
            "seeds": [1, 1],
        }
    )
    assert len(grid.scenes) == 1


def test_a_data_set_of_chosen_classes_has_an_identity_of_its_own():
    def scene(dataset):
        return parse({**BASE, "dataset": dataset}).scenes[0]

    whole = scene({"name": "cifar10"})
    named = scene({"name": "cifar10", "classes": ["airplane", "bird"]})
    assert "classes" not in whole.config["dataset"]
    assert named.config["dataset"]["classes"] == ["airplane", "bird"]
    assert named.id.startswith("cifar10-airplane-bird-")
    assert scene({"name": "cifar10", "classes": [0, 2]}) == named
    assert scene({"name": "cifar10", "classes": [2, 0]}).id != named.id


def test_a_list_of_lists_of_classes_is_an_axis_of_the_grid_and_is_written_back():
    grid = parse({**BASE, "dataset": {"name": "mnist", "classes": [[3, 5], [1, 7, 9]]}})
    assert [scene.dataset.classes for scene in grid.scenes] == [(3, 5), (1, 7, 9)]
    assert parse(tomllib.loads(resolved(grid))) == grid


def test_classes_that_there_are_not_are_faults_of_the_file():
    told = faults({**BASE, "dataset": {"name": "cifar10", "classes": ["a", "b"]}})
    assert told[0].startswith("dataset: classes: 'cifar10' has no class 'a'")
    assert (
        "dataset.classes"
        in faults({**BASE, "dataset": {"name": "mnist", "classes": 3}})[0]
    )


def test_whole_numbers_stand_for_floats_and_strings_for_neither():
    assert parse({**BASE, "recipe": {"lr": 1}}) == parse(
        {**BASE, "recipe": {"lr": 1.0}}
    )
    assert (
        parse({**BASE, "recipe": {"lr": 1}}).scenes[0].id
        == parse({**BASE, "recipe": {"lr": 1.0}}).scenes[0].id
    )
    assert "recipe.epochs" in faults({**BASE, "recipe": {"epochs": "5"}})[0]
    assert "recipe.epochs" in faults({**BASE, "recipe": {"epochs": True}})[0]


def test_all_faults_are_told_at_once_with_path_value_and_nearest_name():
    lines = faults(
        {
            "seed": [0],
            "seeds": ["a", 1],
            "alarm": 2,
            "dataset": "digit",
            "recipe": {"model": "cn", "epochs": 0, "learning": 1},
            "attack": [
                {"name": "pach"},
                {"name": "patch", "budjet": 0.1},
                {"name": "patch", "budget": [0.01, 1.5]},
                {"budget": 1},
            ],
            "estimator": [{"name": "tracin", "mode": "step"}],
            "detector": [{"name": "tail-heavyness"}],
        }
    )
    text = "\n".join(lines)
    for part in (
        "seed: unknown key; did you mean 'seeds'?",
        "seeds: input should be a valid integer, got 'a'",
        "alarm: must be a number in (0, 1), got 2",
        "dataset.name: unknown dataset 'digit'; did you mean 'digits'?",
        "recipe.learning: unknown key",
        "attack[0].name: unknown attack 'pach'; did you mean 'patch'?",
        "attack[1].budjet: unknown key; did you mean 'budget'?",
        "attack[2]: budget must lie in (0, 1), got 1.5",
        "attack[3].name: input should be a string, got None",
        "estimator[0].mode: input should be 'checkpoints' or 'steps', got 'step'",
        "detector[0].name: unknown detector 'tail-heavyness'; did you mean 'tail-heaviness'?",
    ):
        assert part in text, f"{part!r} is not among\n{text}"


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        ({}, "at least one [[attack]]"),
        ({"attack": {"name": "none"}}, "written [[attack]]"),
        ({**BASE, "recipe": 3}, "written [recipe]"),
        ({**BASE, "recipe": {"lr": []}}, "at least one value"),
        ({**BASE, "recipe": {"lr": -1.0}}, "lr must be positive"),
        ({**BASE, "recipe": {"model": "cn"}}, "did you mean 'cnn'"),
        ({**BASE, "probe": {"attacked": 0}}, "attacked must be at least 1"),
        ({**BASE, "dataset": 3}, "dataset"),
        ({**BASE, "seeds": [-1]}, "at least 0, got -1"),
        (
            {**BASE, "detector": [{"name": "tail-heaviness"}]},
            "at least one [[estimator]]",
        ),
        ({"attack": [{"name": "no_such_module:Attack"}]}, "cannot import"),
        ({"attack": [{"name": "toy_attack:generator"}]}, "is no frozen dataclass"),
        ({"attack": [{"name": "test_contracts:Broken"}]}, "is no frozen dataclass"),
        ({"attack": [{"name": "toy_attack:Unhashable"}]}, "unhashable type"),
        (
            {"attack": [{"name": "toy_attack:Unreadable"}]},
            "annotations of Unreadable cannot be read: NameError",
        ),
        (
            {"attack": [{"name": "toy_attack:Unsettable", "image": 1}]},
            "cannot set a field of type",
        ),
        ({"attack": [{"name": "toy_attack:Asserts"}]}, "AssertionError: only one"),
    ],
    ids=str,
)
def test_a_fault_says_what_to_do(raw: dict, part: str):
    assert part in "\n".join(faults(raw))


def test_a_method_from_outside_the_tree_is_named_by_module_and_class():
    grid = parse({"attack": [{"name": "toy_attack:Invert", "budget": 0.1}]})
    assert grid.scenes[0].attack.value.budget == 0.1
    config = grid.scenes[0].attack.config
    assert len(config.pop("code")) == 64
    assert config == {"name": "toy_attack:Invert", "target": 0, "budget": 0.1}


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_grid_parses_and_its_resolved_form_is_the_same_grid(
    path: Path, tmp_path: Path
):
    if path.stem.endswith("-peers"):  # of other libraries, in the extra `bench`
        pytest.importorskip("dattri")
        pytest.importorskip("kronfluence")
        pytest.importorskip("trak")
    grid = parse(read(path))
    (tmp_path / "grid.toml").write_text(resolved(grid))
    assert parse(read(tmp_path / "grid.toml")) == grid


def test_none_is_written_where_a_field_may_hold_it_and_read_back_from_the_resolved_grid(
    tmp_path: Path,
):
    attacks = [
        {"name": "feature-collision", "eps": "none", "watermark": 0.3},
        {"name": "sleeper-agent", "source": ["none", 3]},
    ]
    grid = parse({"attack": attacks})
    assert grid.scenes[0].attack.value.eps is None
    assert [s.attack.value.source for s in grid.scenes[1:]] == [None, 3]
    (tmp_path / "grid.toml").write_text(resolved(grid))
    assert parse(read(tmp_path / "grid.toml")) == grid
    assert (
        "valid number" in faults({"attack": [{"name": "patch", "budget": "none"}]})[0]
    )


def test_overrides(tmp_path: Path):
    path = tmp_path / "g.toml"
    path.write_text('[[attack]]\nname = "patch"\n')
    raw = read(
        path,
        (
            "recipe.epochs=3",
            "attack.0.budget=[0.1, 0.2]",
            "dataset=digits",
            "seeds=[4]",
        ),
    )
    grid = parse(raw)
    assert [s.attack.value.budget for s in grid.scenes] == [0.1, 0.2]
    assert (grid.scenes[0].recipe.epochs, grid.scenes[0].seed) == (3, 4)
    for wrong in ("recipe", "attack.7.budget=1", "=3", "attack.x=1"):
        with pytest.raises(ConfigError, match="no such place"):
            read(path, (wrong,))


@pytest.mark.parametrize(
    "content", [None, b"name = ", b"\xff\xfe"], ids=["absent", "broken", "binary"]
)
def test_a_file_that_is_no_grid_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "g.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"g\.toml"):
        read(path)


@given(st.text(max_size=300))
def test_any_name_becomes_a_harmless_file_name(label: str):
    name = identifier(label, {"a": 1})
    assert len(name) <= 69
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.endswith("/")


def test_identity_does_not_depend_on_the_order_of_keys():
    assert canonical({"a": 1, "b": [1, 2]}) == canonical({"b": [1, 2], "a": 1})
    assert identifier("x", {"a": 1}) != identifier("x", {"a": 2})


STRANGE = {
    "nested arrays": ("q = " + "[" * 900 + "]" * 900, "nested too deep"),
    "a number of 5,000 digits": ("seeds = [" + "1" * 5000 + "]", "4300 digits"),
    "a seed of 300 digits": ("seeds = [" + "1" * 300 + "]", "must be at most"),
    "a seed too many": (
        "seeds = [" + ",".join(map(str, range(100_001))) + "]",
        "a grid of 100001 scenes; at most 100000 are possible",
    ),
}


@pytest.mark.parametrize(("text", "told"), STRANGE.values(), ids=STRANGE)
def test_a_file_that_no_one_means_is_one_error(tmp_path: Path, text: str, told: str):
    path = tmp_path / "g.toml"
    attack = '\n[[attack]]\nname = "none"\n'
    path.write_text(f'name = "strange"\n{text}{attack}')
    with pytest.raises(ConfigError, match=told):
        parse(read(path))


def test_an_override_that_no_one_means_is_a_word():
    deep = "[" * 900 + "]" * 900
    assert with_overrides({}, (f"seeds={deep}",)) == {"seeds": deep}


def test_a_detector_that_names_attacks_judges_the_scenes_of_these_alone(tmp_path: Path):
    raw = {
        "attack": [{"name": "none"}, {"name": "patch", "size": [1, 2]}],
        "detector": [
            {"name": "confidence"},
            {"name": "strip", "attack": ["patch"]},
        ],
        "filter": [{"name": "random-filter"}],
        "mitigation": [{"name": "filter-retrain"}],
    }
    grid = parse(raw)
    judged = {}
    for scene in grid.scenes:
        stages = stages_of(grid, scene, Place(tmp_path))
        found = [dict(stage.methods).get("detector") for stage in stages]
        names = {method.name for method in found if method}
        judged.setdefault(scene.attack.name, []).append(names)
    assert judged == {
        "none": [{"confidence"}],
        "patch": [{"confidence", "strip"}, {"confidence", "strip"}],
    }
    assert parse(tomllib.loads(resolved(grid))) == grid


def test_a_mitigation_does_not_work_on_a_verdict_that_its_scene_lacks(tmp_path: Path):
    raw = {
        "attack": [{"name": "none"}, {"name": "patch"}],
        "estimator": [{"name": "gas"}],
        "detector": [{"name": "strip", "attack": ["patch"]}],
        "mitigation": [{"name": "remove-and-return"}],
    }
    grid = parse(raw)
    for scene in grid.scenes:
        stages = stages_of(grid, scene, Place(tmp_path))
        kinds = [stage.kind for stage in stages]
        assert ("mitigate" in kinds) == (scene.attack.name == "patch")


def test_a_detector_for_an_attack_that_the_grid_lacks_is_a_fault():
    raw = {**BASE, "detector": [{"name": "strip", "attack": "pach"}]}
    assert faults(raw) == [
        "detector[0].attack: the grid has no [[attack]] 'pach' (it has: none)"
    ]
