"""The index of logs gives what the logs hold, and whatever is wrong with it does no harm."""

import json
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from experiments.evaluation import load
from experiments.evaluation.load import load_results
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log
from poisonbench.log import index

GRID = {
    "name": "index",
    "dataset": {"name": "digits", "train": 100, "test": 100},
    "recipe": {"model": "linear", "epochs": 1, "checkpoints": 2},
    "probe": {"attacked": 5, "controls": 10, "calibration": 10},
    "attack": [{"name": "patch", "budget": 0.05}],
    "detector": [{"name": "random"}, {"name": "confidence"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(parse(GRID), Place(tmp_path), Options(workers=0))
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are opened."""
    found: list[Path] = []
    real = log.read

    def counting(path: Path, *args: object, **how: object) -> log.Record:
        found.append(path)
        return real(path, *args, **how)

    monkeypatch.setattr(load.log, "read", counting)
    return found


def assert_equal(one: load.Results, other: load.Results) -> None:
    assert one.records.keys() == other.records.keys()
    assert len(one.damaged) == len(other.damaged)
    for kind, records in one.records.items():
        for record, again in zip(records, other.of(kind), strict=True):
            assert record.path == again.path
            assert record.attributes == again.attributes
            assert record.config == again.config
            assert log.same_results(record, again)


def test_what_the_index_gives_is_what_the_logs_hold(folder: Path, reads: list[Path]):
    first = load_results(folder)
    read_first = len(reads)
    assert read_first == len(list(folder.rglob("*.h5")))
    second = load_results(folder)
    assert len(reads) == read_first
    assert_equal(first, second)


def test_a_folder_may_be_named_from_where_one_stands(
    folder: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder.parent)
    first = load_results(folder.name)
    read_first = len(reads)
    assert_equal(first, load_results(folder.name))
    assert len(reads) == read_first


@pytest.mark.parametrize("how", ["touched", "grown", "replaced"])
def test_a_log_that_changed_is_read_again(folder: Path, reads: list[Path], how: str):
    load_results(folder)
    reads.clear()
    path = next(folder.rglob("detect-*.h5"))
    if how == "touched":
        os.utime(path, ns=(1, 1))
    elif how == "grown":
        path.write_bytes(path.read_bytes() + b"more")
    else:
        content = path.read_bytes()
        times = path.stat()
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    load_results(folder)
    assert reads == [path]


def test_a_damaged_log_is_told_every_time(folder: Path):
    path = next(folder.rglob("detect-*.h5"))
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    for _ in range(2):
        [error] = load_results(folder).damaged
        assert error.path == path


def test_what_was_not_read_whole_is_not_kept(folder: Path, reads: list[Path]):
    load_results(folder, verify=False)
    assert not (folder / "scenes" / index.FILE).exists()
    load_results(folder)
    reads.clear()
    load_results(folder, verify=False)
    assert reads == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


def _other_content(path: Path) -> None:
    path.write_text("no data base")


def _other_table(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE something (a)")


def _forged(path: Path) -> None:
    """Entries that name what no log may hold."""
    head = {"kind": "detect", "config": {}, "attributes": {}}
    head["arrays"] = {"score": ("|O", [1])}
    with sqlite3.connect(path) as base:
        base.execute(
            f"UPDATE {index.TABLE} SET head = ?",
            (json.dumps(head),),
        )


def _short(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute(f"UPDATE {index.TABLE} SET content = ?", (b"x",))


@pytest.mark.parametrize(
    "spoil",
    [_cut, _other_content, _other_table, _forged, _short],
    ids=lambda f: f.__name__,
)
def test_an_index_that_is_damaged_is_as_good_as_none(folder: Path, spoil, reads):
    want = load_results(folder)
    spoil(folder / "scenes" / index.FILE)
    assert_equal(want, load_results(folder))
    reads.clear()
    assert_equal(want, load_results(folder))
    assert reads == []


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuses(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(index.sqlite3, "connect", refuses)
    assert load_results(folder).damaged == ()
    assert not (folder / "scenes" / index.FILE).exists()


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan, -0.0, np.inf]),
        np.zeros((0, 3), np.float32),
        np.array(7),
        np.array([True, False]),
        np.array([b"a", b"\0"], "S1"),
    ],
    ids=["float", "empty", "number", "truth", "text"],
)
def test_arrays_come_back_bit_by_bit(tmp_path: Path, array: np.ndarray):
    path = tmp_path / "a.h5"
    path.write_bytes(b"")
    record = log.Record(path, "detect", {"a": 1}, {"x": array, "y": array}, {"s": 1.5})
    with index.opened(tmp_path) as known:
        known.keep(path, record)
    with index.opened(tmp_path) as known:
        again = known.find(path)
    assert again is not None
    assert log.same_results(record, again)
    assert again.attributes == record.attributes
