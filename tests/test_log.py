"""The log: whole or absent, bit for bit what was put in, and never trusted when read."""

import errno
import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import checking, image, processor, writing
from poisonbench.log.fault import DamageError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {"recipe": {"lr": 0.1, "model": "cnn"}, "seed": 0, "name": "naïve"}
PACKED = {
    "compression": "gzip",
    "compression_opts": 4,
    "shuffle": True,
    "fletcher32": True,
}


def sample(seed=0):
    generator = np.random.default_rng(seed)
    influence = generator.standard_normal((6, 50)).astype("float32")
    influence[1, 2] = np.nan
    return {
        "influence": influence,
        "poison/role": np.arange(9, dtype="uint8"),
        "threshold": np.float64([1.5])[0:1].reshape(()),
    }


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "scene" / "influence.h5"
    log.write(
        place,
        "influence",
        config=CONFIG,
        data={**sample(), "note": "gut\n"},
        attributes={"seconds": 1.5},
    )
    return place


@pytest.mark.parametrize(
    "module",
    ["log", "log.names", "roles", "errors", "registry", "notes", "checks"],
)
def test_what_reads_logs_does_not_wait_for_torch(module):
    code = f"import sys, poisonbench.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_no_two_data_sets_share_a_name():
    found = [value for name, value in vars(log.names).items() if name.isupper()]
    assert len(found) == len(set(found))


def files(folder):
    return sorted(p.name for p in Path(folder).rglob("*") if p.is_file())


# What goes in comes out.

DTYPES = st.sampled_from(
    ["?", "u1", "i1", "i2", "u4", "i4", "i8", "u8", "f2", "f4", "f8", ">f8", ">i4"]
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))
KEYS = st.sampled_from(["a", "b", "poison/role", "poison/origin", "x/y/z", "Einfluß"])


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(KEYS, ARRAYS, max_size=4), st.text())
def test_round_trip_keeps_every_bit(data, text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        log.write(path, "scene", config={"text": text}, data={**data, "the text": text})
        record = log.read(path, "scene")
    assert record.text("the text") == text
    assert record.config == {"text": text}
    assert record.data.keys() == {*data, "the text"}
    for key, array in data.items():
        native = array.astype(array.dtype.newbyteorder("="))
        assert record.data[key].dtype == native.dtype
        assert record.data[key].shape == native.shape
        assert record.data[key].tobytes() == native.tobytes()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12).view(3, 4).T,
        torch.ones(3, requires_grad=True) * 2,
        torch.tensor(2.5, dtype=torch.float16),
        torch.empty(0, 3, dtype=torch.float64),
        torch.tensor([True, False]),
    ],
    ids=lambda tensor: f"{tensor.dtype}-{tuple(tensor.shape)}",
)
def test_a_tensor_comes_back_as_its_array(tmp_path, tensor):
    log.write(tmp_path / "a.h5", "trace", config={}, data={"x": tensor})
    back = log.read(tmp_path / "a.h5").data["x"]
    assert torch.equal(torch.from_numpy(np.array(back)), tensor.detach())
    assert torch.from_numpy(np.array(back)).dtype == tensor.dtype


def test_bfloat16_becomes_the_same_numbers_in_float32(tmp_path):
    tensor = torch.randn(100, generator=torch.Generator().manual_seed(0)).bfloat16()
    log.write(tmp_path / "a.h5", "trace", config={}, data={"x": tensor})
    assert torch.equal(
        torch.from_numpy(log.read(tmp_path / "a.h5").data["x"]), tensor.float()
    )


@pytest.mark.parametrize(
    "text", ["", "a", "\0", "a\0b\0", "\n", "ß" * 100_000, "lone \udc80 surrogate"]
)
def test_a_text_comes_back_whole(tmp_path, text):
    log.write(tmp_path / "a.h5", "failure", config={}, data={"traceback": text})
    assert log.read(tmp_path / "a.h5").text("traceback") == text


def test_text_of_an_array_or_of_nothing_is_a_log_error(path):
    record = log.read(path)
    assert record.text("note") == "gut\n"
    for key in ("influence", "nothing"):
        with pytest.raises(LogError, match=key):
            record.text(key)


def test_what_was_read_can_be_written_again(path):
    record = log.read(path)
    log.write(path, record.kind, config=record.config, data=record.data)
    assert log.same_results(log.read(path), record)


def test_attributes_and_provenance_come_back_as_python_values(tmp_path):
    given_ = {
        "seconds": 1.5,
        "peak_bytes": 2**40,
        "device": "cpü",
        "flag": True,
        "epoch": np.int32(3),
        "empty": "",
        "kind": "clash",
    }
    log.write(tmp_path / "a.h5", "scene", config={}, data={}, attributes=given_)
    record = log.read(tmp_path / "a.h5")
    assert record.kind == "scene"
    assert {name: record.attributes[name] for name in given_} == given_
    assert all(
        type(record.attributes[name]) is type(value)
        for name, value in given_.items()
        if name != "epoch"
    )
    assert record.attributes.keys() - given_.keys() == log.provenance().keys()
    assert record.attributes["numpy"] == np.__version__


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_the_commit_is_that_of_the_checkout():
    head = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert log.provenance()["commit"].removesuffix("-dirty") == head


def test_rows_are_those_of_the_whole_and_only_what_holds_them_is_read(tmp_path):
    values = np.random.default_rng(0).random((9, 50_000)).astype(np.float32)
    file = tmp_path / "x.h5"
    log.write(file, "influence", config={}, data={"v": values, "n": np.array(3)})
    found = log.read(file, keys=("v",), rows=[2, 7]).data["v"]
    assert np.array_equal(found, values[[2, 7]])
    with h5py.File(file, "r") as opened:
        infos = [opened["v"].id.get_chunk_info(index) for index in range(9)]
    last = max(infos, key=lambda info: info.chunk_offset)
    assert last.chunk_offset == (8, 0)
    content = bytearray(file.read_bytes())
    content[last.byte_offset + last.size // 2] ^= 1
    file.write_bytes(content)
    again = log.read(file, keys=("v",), rows=[2, 7]).data["v"]
    assert np.array_equal(again, values[[2, 7]])
    for rows in ([2, 8], [2, 9], [-1]):
        with pytest.raises(LogError):
            log.read(file, keys=("v",), rows=rows)
    with pytest.raises(LogError):
        log.read(file, keys=("n",), rows=[0])


def test_keys_load_only_what_they_name(path):
    assert log.read(path, keys=["threshold"]).data.keys() == {"threshold"}
    assert log.read(path, keys=()).data == {}
    with pytest.raises(LogError, match="score"):
        log.read(path, keys=["influence", "score"])


@pytest.mark.parametrize(
    ("shape", "itemsize"),
    [
        ((7,), 1),
        ((10**7,), 8),
        ((100, 50_000), 4),
        ((10**5, 32), 8),
        ((3, 10**6), 4),
        ((9, 500, 600, 3), 4),
    ],
)
def test_chunks_are_rows_neither_tiny_nor_huge(shape, itemsize):
    chunks = image.chunks_of(shape, itemsize)
    size = itemsize * np.prod(chunks)
    assert all(
        1 <= chunk <= length for chunk, length in zip(chunks, shape, strict=True)
    )
    assert size <= image.CHUNK_BYTES
    assert chunks == shape or size > image.CHUNK_BYTES / 2


def test_a_scalar_an_array_and_an_empty_one_lie_under_a_checksum(path, tmp_path):
    log.write(
        tmp_path / "a.h5",
        "x",
        config={},
        data={"scalar": np.array(1.0), "empty": np.zeros((0, 3)), "row": np.ones(3)},
    )
    with h5py.File(tmp_path / "a.h5", "r") as file:
        layouts = {
            key: file[key].id.get_create_plist().get_layout()
            for key in ("scalar", "empty")
        }
        assert set(layouts.values()) == {h5py.h5d.COMPACT}
        assert file["row"].fletcher32
        assert file.attrs.get_id("kind").get_type().is_variable_str() is False


def test_no_file_may_declare_more_than_its_bytes_can_hold(tmp_path):
    log.write(tmp_path / "a.h5", "x", config={}, data={"row": np.ones(300)})
    with h5py.File(tmp_path / "a.h5", "r") as file:
        declared = 300 * 8 + 2  # the row, and the configuration
        least = -(-declared // checking.MAX_RATIO)
        assert set(checking.walk(file, least)) == {"row", "config"}
        with pytest.raises(DamageError, match="more than a log of its size can hold"):
            checking.walk(file, least - 1)
    assert 1032 < checking.MAX_RATIO < 2 * 1032, "deflate packs 1032 : 1"


# Equality.


def test_same_results_ignores_attributes_and_order_but_nothing_else(tmp_path):
    base = {"x": np.array([0.0, np.nan]), "n": np.arange(3)}

    def record(kind="k", config=CONFIG, data=base, seconds=1.0):
        log.write(
            tmp_path / "r.h5",
            kind,
            config=config,
            data=data,
            attributes={"seconds": seconds},
        )
        return log.read(tmp_path / "r.h5")

    first = record()
    assert log.same_results(first, record(seconds=2.0))
    assert log.same_results(
        first,
        record(
            config=dict(reversed(CONFIG.items())), data=dict(reversed(base.items()))
        ),
    )
    other_nan = np.array([0, 0x7FF8_0000_0000_0001], dtype="u8").view("f8")
    assert log.same_results(first, record(data={**base, "x": other_nan}))
    assert not log.same_results(first, record(kind="l"))
    assert not log.same_results(first, record(config={**CONFIG, "seed": 1}))
    assert not log.same_results(first, record(data={"x": base["x"]}))
    for x in (
        [-0.0, np.nan],
        [np.nan, 0.0],
        [0.0, 1.0],
        [0.0, np.nan, 0.0],
        np.float32([0.0, np.nan]),
        [[0.0, np.nan]],
    ):
        assert not log.same_results(first, record(data={**base, "x": np.asarray(x)}))


# What a log cannot hold is refused by name, before anything is written.


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [1.0],
        {"a": 1},
        b"bytes",
        np.float32(1),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([None]),
        np.array([1j]),
        np.array(["2020"], dtype="datetime64[Y]"),
        np.zeros(2, dtype=[("a", "f4")]),
        np.ma.masked_array([1.0], [True]),
        np.zeros(2, dtype=np.longdouble),
        torch.zeros(2, dtype=torch.complex64),
        torch.eye(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_a_refused_value_is_named_by_its_key(tmp_path, value):
    with pytest.raises(TypeError, match="the/culprit"):
        log.write(
            tmp_path / "sub" / "a.h5",
            "x",
            config={},
            data={"fine": np.ones(2), "the/culprit": value},
        )
    assert not (tmp_path / "sub").exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        ".",
        "a\0b",
        "a\nb",
        "\udc80",
        "/".join("a" * 30),
        "config",
        "attributes/x",
        "fine/x",
    ],
)
def test_a_refused_key_is_named(tmp_path, key):
    with pytest.raises(ValueError, match=re.escape(repr(key))):
        log.write(
            tmp_path / "a.h5",
            "x",
            config={},
            data={"fine": np.ones(2), key: np.ones(2)},
        )
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "value", [None, [1], 1j, np.ones(2), "a\0", "a" * 70_000, 2**63]
)
def test_a_refused_attribute_is_named(tmp_path, value):
    with pytest.raises((TypeError, ValueError), match="culprit"):
        log.write(
            tmp_path / "a.h5", "x", config={}, data={}, attributes={"culprit": value}
        )
    assert files(tmp_path) == []


@pytest.mark.parametrize("config", [{"a": object()}, {"a": Path("x")}, {("a",): 1}])
def test_a_config_that_json_cannot_hold_is_refused(tmp_path, config):
    with pytest.raises(TypeError, match="config"):
        log.write(tmp_path / "a.h5", "x", config=config, data={})
    assert files(tmp_path) == []


def test_more_than_a_reader_accepts_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 1000 bytes"):
        log.write(tmp_path / "a.h5", "x", config={}, data={"x": np.ones(1000)})
    assert files(tmp_path) == []


# Whole or absent.

WRITER = """
import itertools, sys
import numpy as np
from pathlib import Path
from poisonbench import log
generator = np.random.default_rng(0)
for i in itertools.count(int(sys.argv[2])):
    data = {"x": np.full(9, i), "noise": generator.standard_normal(200_000)}
    log.write(Path(sys.argv[1]), "k", config={"i": i}, data=data)
    print(i, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_log_and_sweep_the_rest(tmp_path):
    path, last = tmp_path / "a.h5", 0
    chance = random.Random(0)
    for _ in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(last)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            done = int(child.stdout.readline())
            time.sleep(chance.uniform(0, 0.1))
            child.kill()
            done = max([done, *map(int, child.stdout.read().split())])
            assert child.wait(timeout=30) == -signal.SIGKILL
        record = log.read(path, "k")
        last = record.config["i"]
        assert last in (done, done + 1)
        assert (record.data["x"] == last).all()
        left = len(files(tmp_path)) - 1
        assert log.sweep(tmp_path) == left
        assert files(tmp_path) == ["a.h5"]


def leftover(folder):
    """The temporary file of a writer that died in the middle."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from poisonbench import log\n"
        "os.fsync = lambda _: os._exit(7)\n"
        "log.write(Path(sys.argv[1]), 'k', config={}, data={})"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code, folder / "a.h5"], cwd=ROOT, timeout=60
        ).returncode
        == 7
    )
    (name,) = set(files(folder)) - {"a.h5"}
    return folder / name


def test_sweep_takes_what_the_dead_left_and_nothing_else(tmp_path):
    stale = leftover(tmp_path / "deep" / "er")
    reused = stale.with_name(
        re.sub(r"-\d+-", f"-{os.getpid()}-", stale.name, count=1)
    )  # an earlier process with the id of this one
    reused.write_bytes(stale.read_bytes())
    keep = [
        "a.tmp",
        ".poisonbench-x.tmp",
        stale.name + "x",
        re.sub(r"bench-\w{8}", "bench-00000000", stale.name),
    ]  # another host's
    for name in keep:
        (tmp_path / name).write_text("")
    assert log.sweep(tmp_path) == 2
    assert files(tmp_path) == sorted(keep)
    assert log.sweep(tmp_path) == 0
    assert log.sweep(tmp_path / "absent") == 0


def test_sweep_leaves_a_living_writer_alone(tmp_path, monkeypatch):
    swept, fsync = [], os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda descriptor: (swept.append(log.sweep(tmp_path)), fsync(descriptor)),
    )
    log.write(tmp_path / "a.h5", "k", config={}, data={})
    assert swept == [0, 0]  # file and folder
    assert files(tmp_path) == ["a.h5"]


def refuse(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "place",
    [(os, "fsync"), (Path, "replace"), (Path, "open"), (Path, "mkdir")],
    ids=lambda place: place[1],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_one_error_and_the_old_log_stays(
    path, monkeypatch, place, number
):
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(*place, lambda *_, **__: refuse(number)())
        with pytest.raises(LogError) as caught:
            log.write(path, "influence", config={}, data={"x": np.ones(1000)})
    assert caught.value.path == path
    assert re.search(r"\d{4,} bytes", caught.value.reason)
    assert caught.value.__cause__.errno == number
    assert bool(caught.value.hint) == (number == errno.ENOSPC)
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


def test_an_interrupt_leaves_no_temporary_file(path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        log.write(path, "influence", config={}, data={})
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path, monkeypatch):
    fsync = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda d: (
            refuse(errno.EINVAL)() if Path(f"/proc/self/fd/{d}").is_dir() else fsync(d)
        ),
    )
    log.write(tmp_path / "a.h5", "k", config={}, data={})
    assert log.read(tmp_path / "a.h5").kind == "k"


@pytest.mark.parametrize(
    "name",
    ["x" * 300 + ".h5", "a\0b.h5", "file/a.h5", "folder"],
    ids=["long", "nul", "under-a-file", "a-folder"],
)
def test_an_impossible_place_is_a_log_error_both_ways(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LogError):
        log.write(tmp_path / name, "k", config={}, data={})
    with pytest.raises(LogError):
        log.read(tmp_path / name)
    assert files(tmp_path) == ["file"]


def test_a_log_has_the_rights_that_the_user_gives_new_files(path):
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_threads_write_at_the_same_time(tmp_path):
    def work(i):
        log.write(
            tmp_path / f"{i % 3}.h5",
            "k",
            config={"i": i},
            data={"x": np.full((50, 50), i)},
        )
        return log.read(tmp_path / f"{i % 3}.h5")

    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(work, range(40)))
    assert all((record.data["x"] == record.config["i"]).all() for record in records)
    assert files(tmp_path) == ["0.h5", "1.h5", "2.h5"]


# Damage.


@pytest.mark.parametrize("share", [0, 1, 7, 0.1, 0.5, 0.9, -1], ids=str)
def test_a_truncated_log_is_a_log_error(path, share):
    raw = path.read_bytes()
    path.write_bytes(
        raw[: int(share * len(raw)) if isinstance(share, float) else share]
    )
    with pytest.raises(LogError) as caught:
        log.read(path)
    assert caught.value.hint


def test_a_flipped_bit_is_an_error_or_changes_nothing(path):
    raw, whole, generator = path.read_bytes(), log.read(path), np.random.default_rng(0)
    with h5py.File(path, "r") as file:
        chunks = [
            file["influence"].id.get_chunk_info(i)
            for i in range(file["influence"].id.get_num_chunks())
        ]
    inside = [
        position
        for chunk in chunks
        for position in range(chunk.byte_offset, chunk.byte_offset + chunk.size)
    ]
    caught = 0
    for position in [*generator.choice(inside, 100), *generator.choice(len(raw), 150)]:
        damaged = bytearray(raw)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            record = log.read(path)
        except LogError:
            caught += 1
        else:
            assert position not in inside
            assert log.same_results(record, whole)
            assert record.attributes == whole.attributes
    assert caught > 100


def test_missing_and_foreign_files_are_log_errors(tmp_path, path):
    with pytest.raises(LogError, match="does not exist"):
        log.read(tmp_path / "absent.h5")
    with pytest.raises(LogError, match="no regular file"):
        log.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LogError, match="no regular file"):
        log.read(tmp_path / "pipe")
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(LogError, match="no HDF5 file"):
        log.read(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file.attrs["format"] = "something else"
        file["x"] = [1, 2]
    with pytest.raises(LogError, match="no log of poisonbench"):
        log.read(tmp_path / "foreign.h5")
    with pytest.raises(LogError, match="'influence', not 'scene'"):
        log.read(path, "scene")


def config(text):
    def edit(file):
        del file["config"]
        if text is not None:
            file.create_dataset(
                "config",
                data=np.frombuffer(text.encode(), "S1"),
                chunks=(min(len(text), 1 << 18),),
                **PACKED,
            )

    return edit


FAULTS = {
    "newer schema": (lambda file: file.attrs.modify("schema", 2), "upgrade"),
    "older schema": (lambda file: file.attrs.modify("schema", 0), "older"),
    "schema no number": (
        lambda file: file.attrs.create("schema", np.bytes_("1")),
        "schema",
    ),
    "no schema": (lambda file: file.attrs.pop("schema"), "schema"),
    "not complete": (lambda file: file.attrs.modify("complete", False), "not complete"),
    "no complete": (lambda file: file.attrs.pop("complete"), "not complete"),
    "no kind": (lambda file: file.attrs.pop("kind"), "kind"),
    "no attributes": (lambda file: file.pop("attributes"), "attributes"),
    "no config": (config(None), "config"),
    "broken JSON": (config('{"a": '), "damaged"),
    "deep JSON": (config("[" * 100_000), "damaged"),
    "list for config": (config("[1, 2]"), "no table"),
}


@pytest.mark.parametrize(("edit", "says"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_one_error_with_a_hint(path, edit, says):
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(LogError, match=says) as caught:
        log.read(path)
    assert caught.value.hint
    assert caught.value.path == path


# Hostile logs.


def test_the_forged_chunks_below_are_forged_well(path):
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        chunk_of(bytes(range(256)) * 16)(file)
    assert (log.read(path).data["bad"].reshape(16, 256) == np.arange(256)).all()


def virtual(file):
    layout = h5py.VirtualLayout(shape=(10,), dtype="f4")
    layout[:] = h5py.VirtualSource("/proc/version", "x", shape=(10,))
    file.create_virtual_dataset("bad", layout)


def cycle(file):
    file["bad/inner/loop"] = file.require_group("bad")


def fletcher32(raw):
    """The checksum of the filter of that name, so that a forged chunk passes it."""
    low = high = 0
    for word in np.frombuffer(raw + bytes(len(raw) % 2), ">u2").tolist():
        low = (low + word) % 65535
        high = (high + low) % 65535
    return (high << 16 | low).to_bytes(4, "little")


def chunk_of(content):
    def edit(file):
        data = file.create_dataset("bad", (4096,), "u1", chunks=(4096,), **PACKED)
        raw = zlib.compress(content)
        data.id.write_direct_chunk((0,), raw + fletcher32(raw))

    return edit


def unfiltered(file):
    data = file.create_dataset("bad", (16,), "u1", chunks=(16,), **PACKED)
    data.id.write_direct_chunk((0,), bytes(16), filter_mask=7)


def deep(file):
    file["/".join(["bad"] * 50)] = np.ones(1)


def many(file):
    for i in range(20):
        file.create_group(f"bad{i}")


def no_boolean(file):
    file.create_dataset("bad", (4,), bool, chunks=(4,), **PACKED)
    raw = file["bad"].id
    raw.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, 2, 255], "u1").view(bool))


HOSTILE = {
    "soft link": lambda file: file.update({"bad": h5py.SoftLink("/influence")}),
    "external link": lambda file: file.update(
        {"bad": h5py.ExternalLink("/proc/version", "/x")}
    ),
    "virtual": virtual,
    "external storage": lambda file: file.create_dataset(
        "bad", (10,), "u1", external=[("/proc/version", 0, 10)]
    ),
    "variable text": lambda file: file.create_dataset("bad", data=["a", "b"]),
    "variable arrays": lambda file: file.create_dataset(
        "bad", (2,), h5py.vlen_dtype(np.float32)
    ),
    "reference": lambda file: file.create_dataset(
        "bad", data=file["influence"].ref, dtype=h5py.ref_dtype
    ),
    "compound": lambda file: file.create_dataset(
        "bad", (2,), np.dtype([("a", "f4")]), chunks=(2,)
    ),
    "committed type": lambda file: file.update({"bad": np.dtype("f4")}),
    "null": lambda file: file.create_dataset("bad", data=h5py.Empty("f4")),
    "terabytes": lambda file: file.create_dataset(
        "bad", (10**12,), "f8", chunks=(1 << 15,), **PACKED
    ),
    "terabytes at once": lambda file: file.create_dataset("bad", (10**12,), "f8"),
    "megabytes": lambda file: file.create_dataset(
        "bad", (10**8,), "u1", chunks=(1 << 18,), **PACKED
    ),
    "missing chunks": lambda file: file.create_dataset(
        "bad", (1000,), "u1", chunks=(100,), **PACKED
    ),
    "no checksum": lambda file: file.create_dataset("bad", data=np.ones(100)),
    "only gzip": lambda file: file.create_dataset(
        "bad", data=np.ones(100), chunks=(100,), compression="gzip"
    ),
    "other filter": lambda file: file.create_dataset(
        "bad", data=np.ones(100), chunks=(100,), compression="lzf", fletcher32=True
    ),
    "large chunk": lambda file: file.create_dataset(
        "bad", data=np.zeros(1 << 23, "u1"), chunks=(1 << 23,), **PACKED
    ),
    "chunk that inflates to more": chunk_of(bytes(10_000_000)),
    "chunk that inflates to a little more": chunk_of(bytes(4097)),
    "chunk that inflates to less": chunk_of(bytes(10)),
    "chunk without its filters": unfiltered,
    "second name": lambda file: file.require_group("bad").update(
        {"a": file.create_group("bad/b")}
    ),
    "cycle": cycle,
    "cycle to the root": lambda file: file.update({"bad": file["/"]}),
    "deep": deep,
    "many": many,
    "no boolean": no_boolean,
    "bad name": lambda file: file.create_dataset(
        "bad\n", data=np.ones(1), chunks=(1,), **PACKED
    ),
    "variable attribute": lambda file: file.attrs.create("bad", "text"),
    "array attribute": lambda file: file.attrs.create("bad", np.ones(3)),
    "object attribute": lambda file: file["attributes"].attrs.create(
        "bad", file.ref, dtype=h5py.ref_dtype
    ),
}


@pytest.mark.parametrize("edit", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_log_is_refused_before_it_is_read(path, monkeypatch, edit):
    monkeypatch.setattr(checking, "MAX_OBJECTS", 20)
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        edit(file)
    start = time.perf_counter()
    with pytest.raises(LogError, match="bad") as caught:
        log.read(path)
    assert time.perf_counter() - start < 5
    assert isinstance(caught.value.__cause__, ValueError | TypeError | None)


def test_reading_leaves_no_file_open_and_needs_no_rights_to_write(path):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    path.chmod(0o400)
    path.parent.chmod(0o500)
    before = descriptors()
    try:
        log.read(path)
        with pytest.raises(LogError):
            log.read(path, "other")
        with pytest.raises(LogError):
            log.read(path, keys=["nothing"])
        assert descriptors() == before
    finally:
        path.parent.chmod(0o700)


def test_a_log_is_readable_without_this_module(path):
    with warnings.catch_warnings(), h5py.File(path, "r") as file:
        assert json.loads(file["config"][()].tobytes()) == CONFIG
        assert file["config"][()].tobytes().decode() == json.dumps(
            CONFIG, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        assert np.array_equal(
            file["influence"][()], sample()["influence"], equal_nan=True
        )
        assert file.attrs["schema"] == log.SCHEMA
        assert list(file["attributes"].attrs) == ["seconds"]


def test_reading_logs_does_not_import_torch():
    code = "import sys; import poisonbench.log; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode
        == 0
    )


ORIGIN = importlib.import_module("poisonbench.log.provenance")
CORE = """processor	: {number}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: {model}
model name	: AMD EPYC
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "\n".join(CORE.format(number=i, model=17) for i in (0, 1)),
            "family 25, model 17",
        ),
        (CORE.format(number=0, model=1), "family 25, model 1"),
    ],
)
def test_processors_of_one_name_are_told_apart(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(ORIGIN, "CPUINFO", path)
    assert processor.__wrapped__() == f"AMD EPYC, {told}"


def test_a_machine_that_does_not_say_has_a_processor_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ORIGIN, "CPUINFO", tmp_path / "none")
    assert processor.__wrapped__()
