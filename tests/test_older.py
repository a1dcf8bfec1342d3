"""Results of older code are not taken for those of the code that is there now."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_run import PATCH, SMALL

from attacks import Patch
from experiments.cli import main
from experiments.plan import spec
from experiments.plan.identity import marks_of, unmarked
from experiments.plan.outside import (
    FIRST_VERSION,
    code_of,
    joined,
    released_version,
    version_mark,
)
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.plan.stages import with_data_digests
from experiments.plan.tables.data import DataSpec
from experiments.runner.older import changed_names
from experiments.runner.run import Options, Summary, run
from poisonbench import log

ATTACK = """
import torch
from dataclasses import dataclass, replace


import other_helper
from attacks import Patch
from mine_helper import VALUE


@dataclass(frozen=True)
class Mine:
    budget: float = 0.05

    def __call__(self, train, test, recipe, seed):
        return Patch(budget=self.budget, value=VALUE)(train, test, recipe, seed)


@dataclass(frozen=True)
class Judge:
    uses = ()

    def __call__(self, evidence):
        return torch.arange(len(evidence.test)).double()


def model(shape, classes):
    from poisonbench.data import Layout
    from poisonbench.models.pictures import linear

    return linear(Layout(shape, classes, "image"))


def data(root, download):
    from poisonbench.data import Dataset, load

    train, test = load("digits")
    return Dataset(train.x * VALUE, train.y, 10), test
"""
NAMES = ("mine_attack", "mine_helper", "other_helper")
OURS = [{"name": "mine_attack:Mine"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Modules of one's own beside a grid; forgotten again, as a new process would have it."""
    (tmp_path / "mine_attack.py").write_text(ATTACK)
    (tmp_path / "mine_helper.py").write_text("VALUE = 1.0\n")
    (tmp_path / "other_helper.py").write_text("import mine_helper\n")
    (tmp_path / "not_imported.py").write_text("VALUE = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for name in NAMES:
        sys.modules.pop(name, None)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    for cache in (path.parent / "__pycache__").glob("*.pyc"):
        cache.unlink()
    forget()


def ran(folder: Path, **change: object) -> Summary:
    raw = {
        **SMALL,
        "attack": [PATCH],
        "estimator": [],
        "detector": [{"name": "random"}],
        **change,
    }
    return run(parse(raw), Place(folder / "logs"), Options(workers=0))


GRIDS = {
    "attack": {"attack": OURS},
    "detector": {"detector": [{"name": "mine_attack:Judge"}]},
    "model": {"recipe": {**SMALL["recipe"], "model": "mine_attack:model"}},
    "surrogate": {
        "attack": [
            {
                "name": "label-consistent",
                "budget": 0.05,
                "steps": 1,
                "surrogate": {"model": "mine_attack:model", "epochs": 1},
            }
        ]
    },
}
CELLS = {
    "attack": 2,
    "detector": 1,
    "model": 2,
    "surrogate": 2,
}  # cells of the code that is edited
EDITS = {
    "module": ("mine_attack.py", "import torch\n", "import torch  # edited\n"),
    "helper": ("mine_helper.py", "1.0", "0.5"),
    "helper of a helper": (
        "other_helper.py",
        "import mine_helper",
        "import mine_helper  # edited",
    ),
}


@pytest.mark.parametrize(
    ("what", "edited"),
    [
        ("attack", "module"),
        ("attack", "helper"),
        ("attack", "helper of a helper"),
        ("detector", "helper"),
        ("model", "helper of a helper"),
        ("surrogate", "module"),
    ],
)
def test_edited_code_makes_new_cells_and_the_old_ones_stay_and_are_told(
    what: str, edited: str, folder: Path
):
    first = ran(folder, **GRIDS[what])
    assert (first.failed, first.older) == ([], [])
    before = {path: path.read_bytes() for path in folder.rglob("*.h5")}
    forget()
    again = ran(folder, **GRIDS[what])
    assert (again.done, again.older) == (0, []), "nothing was edited"

    file, old, new = EDITS[edited]
    edit(folder / file, old, new)
    after = ran(folder, **GRIDS[what])
    assert after.done == CELLS[what]
    [line] = after.older
    count = "1 cell" if CELLS[what] == 1 else f"{CELLS[what]} cells"
    assert line.startswith(f"{count} of ")
    assert line.endswith("of older code or data: kept beside")
    assert {path: path.read_bytes() for path in before} == before

    edit(folder / file, new, old)
    assert ran(folder, **GRIDS[what]).done == 0, "the old code finds its cells again"


def test_the_line_names_what_was_edited(folder: Path):
    ran(folder, attack=OURS)
    edit(folder / "mine_helper.py", "1.0", "0.5")
    summary = ran(folder, attack=OURS)
    assert summary.older == [
        "2 cells of mine_attack:Mine are of older code or data: kept beside"
    ]
    status = CliRunner().invoke(main, ["status", str(folder / "logs")])
    assert summary.older[0] in status.output
    assert "1 scene, 2 cells, 2 done" in status.output


def test_a_file_that_the_module_does_not_import_changes_nothing(folder: Path):
    ran(folder, attack=OURS)
    edit(folder / "not_imported.py", "1.0", "0.5")
    assert ran(folder, attack=OURS).done == 0


def test_a_data_set_whose_tensors_change_is_a_new_cell_and_one_whose_code_alone_does_is_not(
    folder: Path,
):
    data = {"name": "mine_attack:data", "train": 200, "test": 150}
    assert ran(folder, dataset=data).failed == []
    edit(folder / "mine_attack.py", "import torch\n", "import torch  # edited\n")
    assert ran(folder, dataset=data).done == 0
    edit(folder / "mine_helper.py", "1.0", "0.5")
    summary = ran(folder, dataset=data)
    assert summary.done == 2
    assert summary.older == [
        "2 cells of mine_attack:data are of older code or data: kept beside"
    ]
    path = next((folder / "logs").rglob("scene.h5"))
    assert len(log.read(path).config["dataset"]["sha256"]) == 64


def test_the_grid_written_beside_the_logs_names_the_same_cells(folder: Path):
    from experiments.plan.gridfile import read

    data = {"name": "mine_attack:data", "train": 200, "test": 150}
    ran(folder, dataset=data, attack=OURS)
    again = parse(read(folder / "logs" / "grid.toml"))
    [scene] = again.scenes
    assert Place(folder / "logs").scene(scene).is_dir()
    assert with_data_digests(again, Place(folder)) == again


def test_built_in_names_have_no_marks_and_keep_their_identity():
    [scene] = parse({"attack": [PATCH]}).scenes
    assert marks_of(scene.config) == {}
    assert unmarked(scene.config) == scene.config
    assert set(scene.config) == {"dataset", "recipe", "probe", "attack", "seed"}
    assert set(scene.config["dataset"]) == {"name", "train", "test"}
    assert scene.config["attack"] == {"name": "patch", **Patch(budget=0.05).__dict__}
    assert code_of(Patch, "patch") == code_of(Patch, "attacks.patch:Patch") == ""
    assert (
        with_data_digests(parse({"attack": [PATCH]}), Place(Path())).scenes[0] == scene
    )


def test_another_released_version_is_another_cell_and_a_commit_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    [scene] = parse({"attack": [PATCH]}).scenes
    first = scene.id
    assert version_mark() == (
        {} if released_version() == FIRST_VERSION else version_mark()
    )
    monkeypatch.setattr(spec, "version_mark", lambda: {"version": "0.2.0"})
    [scene] = parse({"attack": [PATCH]}).scenes
    assert scene.id != first
    assert marks_of(scene.config) == {"version": "0.2.0"}
    assert "version" not in unmarked(scene.config)


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ("0.1.0", {}),
        ("0.2.0", {"version": "0.2.0"}),
        ("0.2.0.dev3+g12ab", {"version": "0.2.0"}),
        ("0.1.0+local", {}),
    ],
)
def test_a_development_copy_counts_as_its_release(
    installed: str, told: dict, monkeypatch: pytest.MonkeyPatch
):
    from experiments.plan import outside

    monkeypatch.setattr(outside.metadata, "version", lambda name: installed)
    released_version.cache_clear()
    try:
        assert version_mark() == told
    finally:
        released_version.cache_clear()


def test_marks_are_found_wherever_a_configuration_holds_them():
    config = {
        "scene": {
            "attack": {"name": "a:A", "code": "1"},
            "recipe": {"model": "m:m", "code": "2"},
            "dataset": {"name": "d:d", "sha256": "3"},
            "transfer": {"rows": 0, "sha256": "4"},
            "version": "5",
        },
        "detector": {"name": "b:B", "code": "6"},
        "estimator": None,
    }
    marks = {
        "a:A": "1",
        "m:m": "2",
        "d:d": "3",
        "transfer.state": "4",
        "version": "5",
        "b:B": "6",
    }
    assert marks_of(config) == marks
    assert marks_of(unmarked(config)) == {}
    assert changed_names(marks, {**marks, "a:A": "9"}) == "a:A"
    assert changed_names({}, {"a:A": "9", "b:B": "1"}) == "a:A and b:B"


def test_a_sha256_that_is_a_hyperparameter_is_no_mark():
    config = {"attack": {"name": "file", "sha256": "ab"}}
    assert unmarked(config) == config
    assert marks_of(config) == {}


def test_several_digests_count_in_their_order_and_empty_ones_do_not():
    assert joined([]) == joined(["", ""]) == ""
    assert joined(["", "ab"]) == "ab"
    assert len(joined(["ab", "cd"])) == 64
    assert joined(["ab", "cd"]) != joined(["cd", "ab"])


def test_a_digest_of_data_is_a_part_of_its_configuration_where_there_is_one():
    assert "sha256" not in DataSpec("digits").config
    assert DataSpec("m:d", sha256="ab").config["sha256"] == "ab"
