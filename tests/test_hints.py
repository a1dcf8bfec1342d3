"""No hint does harm: only a stage of a run, proven broken, is to be deleted."""

import ast
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest

from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import fault

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("poisonbench", "attacks", "estimators", "defenses", "experiments")
ADVICE = re.compile(
    r"\b(delete|remove|erase|overwrite)\s+(it|them|the|this|that|all)\b|\brm\s", re.I
)
VALUES = np.arange(40.0)


def write(path: Path) -> Path:
    log.write(path, "detect", config={"a": 1}, data={"score": VALUES})
    return path


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """A stage of a run, whole."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "grid.toml").write_text("")
    return write(tmp_path / "run" / "scenes" / "patch-1" / "detect-gas.h5")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    image = bytearray(path.read_bytes())
    image[image.index(b"OHDR") + 6] ^= 0xFF
    path.write_bytes(image)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lose_head(path: Path) -> None:
    path.write_bytes(b"\0" * 8 + path.read_bytes()[8:])


def interrupt_a_writer(path: Path) -> None:
    """Damage, under the mark that HDF5 sets while a file is open for writing."""
    truncate(path)
    image = bytearray(path.read_bytes())
    image[fault.FLAGS] |= fault.OPEN_FOR_WRITING
    path.write_bytes(image)


DAMAGES = [truncate, flip, empty, lose_head]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_stage_of_a_run_is_to_be_deleted(
    damage: Callable[[Path], None], stage: Path
):
    damage(stage)
    with pytest.raises(LogError) as caught:
        log.read(stage)
    assert caught.value.hint == fault.AGAIN


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "place",
    [
        "detect-gas.h5",
        "run/poison.h5",
        "elsewhere/scenes/patch-1/detect-gas.h5",
        "run/scenes/a.h5",
    ],
)
def test_a_broken_file_elsewhere_is_not(
    damage: Callable[[Path], None], place: str, stage: Path, tmp_path: Path
):
    path = write(tmp_path / place)
    damage(path)
    with pytest.raises(LogError) as caught:
        log.read(path)
    expected = fault.NO_LOG if damage in (empty, lose_head) else fault.RESTORE
    assert caught.value.hint == expected


def as_text(folder: Path) -> Path:
    path = folder / "invert.py"
    path.write_text("# weeks of work\n")
    return path


def as_folder(folder: Path) -> Path:
    return folder


def as_other_hdf5(folder: Path) -> Path:
    path = folder / "other.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = VALUES
    return path


def as_older_schema(folder: Path) -> Path:
    path = folder / "detect-old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = np.bytes_("poisonbench-log")
        file.attrs["schema"] = 0
    return path


def as_nothing(folder: Path) -> Path:
    return folder / "detect-absent.h5"


def as_half_written(folder: Path) -> Path:
    path = write(folder / "detect-now.h5")
    interrupt_a_writer(path)
    return path


OTHERS = {
    as_text: "name a log",
    as_folder: "name a log",
    as_other_hdf5: "name a file that poisonbench wrote",
    as_older_schema: "the version that wrote it",
    as_nothing: "run the stage",
    as_half_written: "close it there",
}


@pytest.mark.parametrize("make", OTHERS)
def test_what_is_no_broken_stage_is_never_to_be_deleted(
    make: Callable[[Path], Path], stage: Path
):
    with pytest.raises(LogError) as caught:
        log.read(make(stage.parent))
    assert OTHERS[make] in caught.value.hint
    assert not ADVICE.search(str(caught.value))


@pytest.mark.parametrize("mode", ["r", "r+", "a"])
@pytest.mark.parametrize("locking", [True, False, None])
def test_a_log_that_this_process_has_open_is_read(
    mode: str, locking: bool | None, stage: Path
):
    with h5py.File(stage, mode, locking=locking):
        assert np.array_equal(log.read(stage).data["score"], VALUES)


def test_the_mark_of_a_file_open_for_writing_is_the_one_that_hdf5_sets(stage: Path):
    damaged = stage.with_name("detect-damaged.h5")
    for mode, hint in (("r", fault.AGAIN), ("r+", fault.CLOSE)):
        with h5py.File(stage, mode, libver=("v110", "v110")):
            damaged.write_bytes(stage.read_bytes()[:-40])
        with pytest.raises(LogError) as caught:
            log.read(damaged)
        assert caught.value.hint == hint


def test_a_log_that_is_read_twice_at_once_is_read(stage: Path):
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(h5py.File(stack.enter_context(stage.open("rb")), "r"))
        assert np.array_equal(log.read(stage).data["score"], VALUES)


REFUSALS = {
    PermissionError(13, "Permission denied"): "cannot be read: Permission denied",
    OSError(5, "Input/output error"): "cannot be read: Input/output error",
    OSError(24, "Too many open files"): "cannot be read: Too many open files",
    MemoryError(): "more memory than there is",
}


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
def test_a_whole_log_that_the_system_refuses_is_not_called_damaged(
    error: Exception, stage: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("poisonbench.log.reading.h5py.File", refuse)
    with pytest.raises(LogError, match=REFUSALS[error]) as caught:
        log.read(stage)
    assert "may be whole" in caught.value.hint
    assert "damaged" not in str(caught.value)
    assert not ADVICE.search(str(caught.value))


def texts(path: Path) -> list[str]:
    """All texts of a file but its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs.add(node.value)
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [
        node.value for node in found if isinstance(node.value, str) and node not in docs
    ]


def test_one_text_alone_advises_to_delete_something():
    found = [
        text
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for text in texts(path)
        if ADVICE.search(text)
    ]
    assert found == [fault.AGAIN]
