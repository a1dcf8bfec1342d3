"""The log: the only reader and writer of poisonbench's HDF5 files (schema 1).

A log is whole or absent. Its image is built in memory, written under a temporary name beside its place, synced, and moved there,
so that neither a kill nor a full disk leaves half a file; no log is ever opened for change. All data lie under a checksum: arrays
in chunks with fletcher32; scalars, empty arrays and attributes in object headers, which HDF5 checks itself.
A log is untrusted input: before any array is read, types, sizes, links and storage are checked; every fault is one `LogError`.

Root attributes: format, schema, kind, provenance, `complete` (last). Group `attributes`: the attributes of the stage. Data set
`config`: canonical JSON. All else is the result. Cost: O(bytes), mostly gzip; memory for the data and twice the compressed image.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from poisonbench.errors import LogError, LogWriteError

if TYPE_CHECKING:
    import torch

FORMAT = "poisonbench-log"
SCHEMA = 1

MAX_BYTES = 8 << 30  # that the data sets of one log may declare together
MAX_RATIO = 1100  # deflate cannot pack more than 1032 : 1, so a file that declares more bytes than this per byte lies
MAX_CHUNK = 4 << 20  # bytes
MAX_CONFIG = 16 << 20  # bytes of JSON
MAX_ATTRIBUTE = 32 << 10  # bytes; HDF5 itself stops at 64 KiB
MAX_OBJECTS = 100_000
MAX_DEPTH = 16
CHUNK_BYTES = 256 << 10

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = int | float | str | bool

_AGAIN = "delete it and run the same command again: only this stage is done anew"
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_TOKEN = secrets.token_hex(4)  # tells this process from an earlier one of the same id, as containers give again
_COUNT = itertools.count()
_TEMPORARY = re.compile(rf"\.poisonbench-{_HOST}-(\d{{1,9}})-([0-9a-f]{{8}})-\d+\.tmp")


@dataclass(frozen=True, eq=False)
class Record:
    """One log, as read.

    Attributes:
        path: the file.
        kind: what it holds: "scene", "trace", "influence", "detect", "failure", ...
        config: the resolved configuration of the stage.
        data: the result; "a/b" lies in group a. A text is an array of single bytes (`S1`); `text` decodes it.
        attributes: seconds, dates, versions, devices: no part of the result.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    data: dict[str, Array]
    attributes: dict[str, Attribute]

    def text(self, key: str) -> str:
        """The text stored under `key`.

        Raises:
            LogError: no data set of that name was read, or it is not a text.
        """
        array = self.data.get(key)
        if array is None or array.dtype.kind != "S":
            raise LogError(self.path, f"holds no text {key!r}")
        with _one_error(self.path):
            return _decode(array.tobytes())


def write(
    path: Path,
    kind: str,
    *,
    config: Mapping[str, Any],
    data: Mapping[str, torch.Tensor | Array | str],
    attributes: Mapping[str, Attribute] = {},
) -> None:
    """Write a log, whole or not at all; a log that was there before is replaced in one step.

    Args:
        path: its place; missing folders are made.
        kind: what it holds.
        config: the resolved configuration; anything that JSON can hold (as in Python's `json`, inf and nan too).
        data: tensors and arrays of bool, int, uint or float up to 64 bits, of any shape, and texts (or what `Record.data` holds
            of them). bfloat16, which numpy lacks, is stored as float32, which holds it exactly.
        attributes: seconds, devices and such, no part of the result; `provenance` is added.

    Raises:
        TypeError: a value that a log cannot hold, named by its key; nothing is written.
        ValueError: a key or value out of bounds; nothing is written.
        LogWriteError: the disk is full, or the system refuses; what was there before stays whole. `__cause__` is the OSError.
    """
    arrays = {_checked_key(key): _array(key, value) for key, value in data.items()}
    if clash := sorted(key for key in arrays if key.split("/")[0] in ("attributes", "config")):
        raise ValueError(f"data {clash[0]!r}: the names attributes and config are the log's own")
    if clash := sorted(key for key in arrays if any(str(parent) in arrays for parent in Path(key).parents)):
        raise ValueError(f"data {clash[0]!r}: a data set cannot lie inside another")
    arrays["config"] = _array("config", _canonical(config))
    if (size := sum(array.nbytes for array in arrays.values())) > MAX_BYTES:
        raise ValueError(f"a log holds at most {MAX_BYTES} bytes, got {size}; split it or store less")
    if arrays["config"].nbytes > MAX_CONFIG:
        raise ValueError(f"config holds at most {MAX_CONFIG} bytes of JSON, got {arrays['config'].nbytes}")
    header = {name: _checked_attribute(name, value) for name, value in {"kind": kind, **provenance()}.items()}
    own = {_checked_key(name): _checked_attribute(name, value) for name, value in attributes.items()}
    path = Path(path)
    temporary = path.parent / f".poisonbench-{_HOST}-{os.getpid()}-{_TOKEN}-{next(_COUNT)}.tmp"
    try:
        image = _image(temporary.name, arrays, header, own)
    except (OSError, MemoryError) as error:
        raise LogWriteError(path, f"no memory to build the image of {size} bytes of data: {error}") from error
    _place(path, temporary, image)


def read(path: Path, kind: str | None = None, *, keys: Collection[str] | None = None) -> Record:
    """Read a log.

    Args:
        path: the file.
        kind: the kind that it must be of; None for any.
        keys: load these data sets only, and all of these; the rest is checked too, except for the checksums of its data.

    Raises:
        LogError: the file is missing, damaged, foreign, hostile, of another schema or kind, or lacks one of `keys`; nothing else.
    """
    path = Path(path)
    with _one_error(path), _open(path) as file:
        found_kind, attributes = _header(file, kind)
        found = _walk(file, path.stat().st_size)
        attributes.update(_attributes(file["attributes"]))
        text = found.pop("config")
        if text.size > MAX_CONFIG:
            raise _DamageError(f"declares a configuration of {text.size} bytes")
        config = json.loads(_decode(_load(text).tobytes()))
        if not isinstance(config, dict):
            raise _DamageError("its configuration is no table")
        if lacking := sorted(set(keys or ()) - set(found)):
            raise _DamageError(f"has no data set {lacking[0]!r}", f"it has: {', '.join(sorted(found)) or 'none'}")
        data = {key: _load(dataset) for key, dataset in sorted(found.items()) if keys is None or key in keys}
        return Record(path, found_kind, config, data, attributes)


def same_results(a: Record, b: Record) -> bool:
    """Whether kind, configuration and every data set agree bit for bit (a NaN is a NaN); attributes are not compared."""
    if (a.kind, _canonical(a.config), a.data.keys()) != (b.kind, _canonical(b.config), b.data.keys()):
        return False
    return all(_same(array, b.data[key]) for key, array in a.data.items())


def sweep(folder: Path) -> int:
    """Remove the temporary files that dead writers of this host left below `folder`; returns how many."""
    removed = 0
    for path in Path(folder).rglob(".poisonbench-*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and _is_dead(int(match[1]), match[2]):
            with suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def provenance() -> dict[str, str]:
    """The attributes that every log gets: versions, the commit of the checkout (empty if there is none), and the date in UTC."""
    packages = {name: _version(name) for name in ("poisonbench", "torch", "numpy", "h5py")}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {**packages, "python": platform.python_version(), "commit": _commit(), "date": date}


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a source tree
        return ""


@cache
def _commit() -> str:
    root = Path(__file__).resolve().parents[1]
    git = shutil.which("git")
    # An installed package may lie inside the checkout of something else, whose commit would be a lie: hence no search upwards.
    if git is None or not (root / ".git").exists():
        return ""
    command = [git, "--no-optional-locks", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }  # set in hooks, for another tree
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603 (no shell)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _canonical(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"config must be a table that JSON can hold: {error}") from error


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")  # a file name in a traceback may hold lone surrogates


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _checked_key(key: str) -> str:
    parts = key.split("/")
    if not key.isprintable() or len(parts) > MAX_DEPTH or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"a key must be printable names with single slashes between them, at most {MAX_DEPTH}, got {key!r}")
    return key


def _checked_attribute(name: str, value: Any) -> Attribute:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str):
        raise TypeError(f"attribute {name!r} must be int, float, str or bool, got {type(value).__name__}")
    if isinstance(value, str) and ("\0" in value or len(_encode(value)) > MAX_ATTRIBUTE):
        raise ValueError(f"attribute {name!r} must be at most {MAX_ATTRIBUTE} bytes without NUL; store a longer text as data")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"attribute {name!r} must fit in 64 bits, got {value}")
    return value


def _is_text(array: Array | h5py.Dataset) -> bool:
    return array.dtype == "S1" and len(array.shape) == 1


def _array(key: str, value: Any) -> Array:
    if isinstance(value, str):
        return np.frombuffer(_encode(value), dtype="S1")
    torch = sys.modules.get("torch")  # who holds a tensor has imported it; who only reads logs is spared the seconds that takes
    if torch is not None and isinstance(value, torch.Tensor):
        try:
            value = value.detach().cpu().resolve_neg()
            value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"data {key!r}: a log cannot hold this tensor: {error}") from error
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"data {key!r} must be a tensor, an array or a str, got {type(value).__name__}")
    if not (_is_text(value) or (value.dtype.kind in "biuf" and value.dtype.itemsize <= 8)):
        raise TypeError(f"data {key!r} must be of bool, int, uint or float up to 64 bits, got {value.dtype}")
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def _same(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        nan = np.isnan(a)
        if not np.array_equal(nan, np.isnan(b)):
            return False
        a, b = a[~nan], b[~nan]
    return a.tobytes() == b.tobytes()  # bytes, for 0.0 == -0.0


def _image(name: str, arrays: Mapping[str, Array], header: Mapping[str, Attribute], own: Mapping[str, Attribute]) -> bytes:
    # `name` must be unique: HDF5 takes two images of one name, open in two threads, for one file.
    with h5py.File(name, "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        _attach(file, {"format": FORMAT, "schema": SCHEMA, **header})
        _attach(file.create_group("attributes"), own)
        for key, array in arrays.items():
            _store(file, key, array)
        _attach(file, {"complete": True})
        file.flush()  # get_file_image does not, and without it the image lacks its metadata
        return bytes(file.id.get_file_image())


def _attach(group: h5py.Group, attributes: Mapping[str, Attribute]) -> None:
    for name, value in attributes.items():
        if isinstance(value, str):  # of fixed length: texts of variable length lie in a heap without a checksum
            raw = _encode(value)
            group.attrs.create(name, raw, dtype=h5py.string_dtype("utf-8", max(1, len(raw))))
        else:
            group.attrs.create(name, value)


def _store(file: h5py.File, key: str, array: Array) -> None:
    if array.ndim and array.size:
        packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
        file.create_dataset(key, data=array, chunks=_chunks(array.shape, array.itemsize), **packed)
    else:  # cannot be chunked, so it goes into the object header; h5py's own call forgets the layout of a scalar
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.COMPACT)
        parent, _, name = key.rpartition("/")
        group, space = file.require_group(parent or "/"), h5py.h5s.create_simple(array.shape)
        stored = h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(array.dtype, logical=True), space, layout)
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(array))


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """One row of the first axis; several if rows are small, a part of one if it is huge: at most `CHUNK_BYTES`."""
    chunks: list[int] = []
    for length in reversed(shape):
        chunks.insert(0, max(1, min(length, CHUNK_BYTES // (itemsize * math.prod(chunks)))))
    return tuple(chunks)


def _place(path: Path, temporary: Path, image: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(image)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        hint = "free that much space, then run the same command again: what is done is kept" if full else ""
        raise LogWriteError(path, f"cannot write its {len(image)} bytes: {reason}", hint) from error
    finally:
        with suppress(OSError, ValueError):
            temporary.unlink()  # there only if something failed, Ctrl-C included


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # network file systems that cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def _is_dead(process: int, token: str) -> bool:
    if process == os.getpid():
        return token != _TOKEN
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class _DamageError(Exception):
    def __init__(self, reason: str, hint: str = _AGAIN) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except LogError:
        raise
    except _DamageError as damage:
        raise LogError(path, damage.reason, damage.hint) from None
    except Exception as error:  # h5py raises a dozen types on bad files; each of them means damage here
        raise LogError(path, f"is damaged: {str(error) or type(error).__name__}", _AGAIN) from error


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise _DamageError("does not exist", "run the stage that writes it")
    if not path.is_file():  # a pipe would wait for ever
        raise _DamageError("is no regular file", "name a log")
    if path.stat().st_size == 0:
        raise _DamageError("is empty")
    with path.open("rb") as file:  # HDF5 would also search at 512, 1024, ... for a head; no log has one there
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise _DamageError("is no HDF5 file, or its head is lost")
    return h5py.File(path, "r", locking=False)  # a finished log never changes, and locks fail on some network file systems


def _header(file: h5py.File, kind: str | None) -> tuple[str, dict[str, Attribute]]:
    """The kind and the provenance of a log of this schema."""
    if _attribute(file, "format") != FORMAT:
        raise _DamageError("is an HDF5 file, but no log of poisonbench", "name a file that poisonbench wrote")
    schema = _attribute(file, "schema")
    if type(schema) is not int:
        raise _DamageError("does not name its schema")
    if schema > SCHEMA:
        raise _DamageError(f"is of schema {schema}, newer than {SCHEMA}", "upgrade poisonbench to read it")
    if schema < SCHEMA:
        raise _DamageError(
            f"is of schema {schema}, older than {SCHEMA}", "read it with the version that wrote it, or delete it and run again"
        )
    attributes = _attributes(file)
    if attributes.pop("complete", False) is not True:
        raise _DamageError("is not complete")
    found = attributes.pop("kind", None)
    if not isinstance(found, str):
        raise _DamageError("does not name its kind")
    if kind not in (None, found):
        raise _DamageError(f"is of kind {found!r}, not {kind!r}", f"name a log of kind {kind!r}")
    return found, {name: value for name, value in attributes.items() if name not in ("format", "schema")}


def _attribute(group: h5py.Group, name: str) -> Attribute | None:
    """A number or short text; None where there is none, or something else of that name."""
    if name not in group.attrs:
        return None
    found = h5py.h5a.open(group.id, name.encode())
    if found.shape != () or found.dtype.kind not in "biufS" or found.dtype.itemsize > MAX_ATTRIBUTE:
        return None
    value = group.attrs[name]
    return _decode(value) if isinstance(value, bytes) else value.item()


def _attributes(group: h5py.Group) -> dict[str, Attribute]:
    values = {}
    for name in group.attrs:
        value = _attribute(group, name)
        if value is None:
            raise _DamageError(f"its attribute {name!r} is no number or short text")
        values[name] = value
    return values


def _walk(file: h5py.File, size: int) -> dict[str, h5py.Dataset]:
    """All data sets by key, each checked without reading it; `size` is the file's, in bytes."""
    room = min(MAX_BYTES, MAX_RATIO * size)
    found: dict[str, h5py.Dataset] = {}
    seen = {h5py.h5o.get_info(file.id).addr}
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            key = _checked_key(prefix + name)
            if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _DamageError(f"{key!r} is a link to elsewhere, which no log has")
            child = group[name]
            if isinstance(child, h5py.Dataset):
                found[key] = child
                room -= _checked_size(key, child, room)
            elif isinstance(child, h5py.Group):
                pending.append((key + "/", child))
            else:
                raise _DamageError(f"{key!r} is neither a group nor a data set")
            address = h5py.h5o.get_info(child.id).addr
            if address in seen or len(seen) >= MAX_OBJECTS:
                raise _DamageError(f"{key!r} is a second name of one object, or one of more than {MAX_OBJECTS}")
            seen.add(address)
    return found


def _checked_size(key: str, dataset: h5py.Dataset, room: int) -> int:
    """The bytes that a data set declares, once they are known to be there, stored as a log stores them, and at most `room`."""
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CHUNKED):
        raise _DamageError(f"the data of {key!r} lie without a checksum, or outside the file")
    shape, dtype = dataset.shape, dataset.dtype
    if shape is None or not (_is_text(dataset) or (dtype.kind in "biuf" and dtype.itemsize <= 8)):
        raise _DamageError(f"{key!r} is of type {dtype}, which no log has")
    size: int = math.prod(shape) * dtype.itemsize
    if size > room:
        raise _DamageError(f"declares {size} bytes for {key!r}, more than a log of its size can hold")
    compact = plan.get_layout() == h5py.h5d.COMPACT
    if not (dataset.id.get_storage_size() == size if compact else _has_all_chunks(dataset, plan)):
        raise _DamageError(f"the data of {key!r} are not all there, or not as a log stores them")
    return size


def _has_all_chunks(dataset: h5py.Dataset, plan: Any) -> bool:
    """Whether every chunk is stored (HDF5 reads missing ones as zeros), of a sane size, and under a checksum."""
    filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    if filters != [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]:
        return False
    expected = math.prod(len(starts) for starts in _starts(dataset))
    stored: int = dataset.id.get_num_chunks()
    return math.prod(dataset.chunks) * dataset.dtype.itemsize <= MAX_CHUNK and stored == expected


def _starts(dataset: h5py.Dataset) -> list[range]:
    return [range(0, length, step) for length, step in zip(dataset.shape, dataset.chunks, strict=True)]


def _load(dataset: h5py.Dataset) -> Array:
    if dataset.chunks:
        _check_inflation(dataset)
    array = np.asarray(dataset[()])
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise _DamageError(f"{dataset.name!r} holds truth values that are neither true nor false")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_inflation(dataset: h5py.Dataset) -> None:
    # HDF5 inflates a chunk to whatever its stream holds: a forged one would take all memory, or yield stray bytes of the heap.
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for start in itertools.product(*_starts(dataset)):
        skipped, raw = dataset.id.read_direct_chunk(start)
        stream = zlib.decompressobj()
        inflated = -1 if skipped else len(stream.decompress(memoryview(raw)[:-4], size + 1))  # the last 4 bytes are the checksum
        if inflated != size or not stream.eof:
            raise _DamageError(f"a chunk of {dataset.name!r} does not hold the {size} bytes that it should")
