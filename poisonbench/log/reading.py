"""Reading: every fault of a file, whatever HDF5 calls it, is one `LogError`."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from poisonbench.log.checking import Stored, walk
from poisonbench.log.fault import SIGNATURE, DamageError, one_error
from poisonbench.log.loading import load, parts_of, read_through
from poisonbench.log.record import (
    FORMAT,
    MAX_ATTRIBUTE,
    MAX_CONFIG,
    SCHEMA,
    Array,
    Attribute,
    Record,
    decode,
)


def read(
    path: Path,
    kind: str | None = None,
    *,
    keys: Collection[str] | None = None,
    rows: Sequence[int] | None = None,
    verify: bool = False,
) -> Record:
    """Read a log.

    Args:
        path: the file.
        kind: the kind that it must be of; None for any.
        keys: load these data sets only, and all of these; the rest is checked too, except for the
            checksums of its data.
        rows: of each of these, load these along its first axis only, ascending, each once.
        verify: read the rest, too, a part at a time, so that all checksums are tested.

    Raises:
        LogError: the file is missing, unreadable, damaged, foreign, hostile, of another schema or
            kind, or lacks one of `keys`; nothing else.
    """
    path = Path(path)
    with one_error(path), _opened(path) as file:
        found_kind, attributes = _header(file, kind)
        found = walk(file, path.stat().st_size)
        attributes.update(_attributes(file["attributes"]))
        config = _config(found.pop("config"))
        lacking = sorted(set(keys or ()) - set(found))
        if lacking:
            known = ", ".join(sorted(found)) or "none"
            raise DamageError(f"has no data set {lacking[0]!r}", f"it has: {known}")
        chosen = [key for key in sorted(found) if keys is None or key in keys]
        data = {key: load(key, found[key], rows) for key in chosen}
        if verify:
            for key in sorted(set(found) - set(chosen)):
                read_through(key, found[key])
        return Record(path, found_kind, config, data, attributes)


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each data set of a log, none of which is read.

    Raises:
        LogError: as `read`.
    """
    with _data_sets(path) as found:
        return {key: stored.shape for key, stored in found.items() if key != "config"}


def parts(path: Path, key: str) -> Iterator[Array]:
    """Yields a data set of a log, some of its rows at a time, never more than 16 MiB or a chunk.

    Args:
        path: the file.
        key: of a data set that is there.

    Raises:
        LogError: as `read`.
    """
    with _data_sets(path) as found:
        yield from parts_of(key, found[key])


@contextmanager
def _data_sets(path: Path) -> Iterator[Mapping[str, Stored]]:
    """Opens a log and gives what is stored in it, checked but not read."""
    path = Path(path)
    with one_error(path), _opened(path) as file:
        _header(file, None)
        yield walk(file, path.stat().st_size)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Opens a file that begins like a log.

    HDF5 reads it by way of a file of Python: by its name it refuses one that this process has open
    already with other settings, and locks fail on some network file systems.
    """
    if not path.exists():
        raise DamageError("does not exist", "run the stage that writes it")
    if not path.is_file():  # a pipe would wait for ever
        raise DamageError("is no regular file", "name a log")
    if path.stat().st_size == 0:
        raise DamageError("is empty")
    with path.open("rb") as raw:
        # HDF5 would also search at 512, 1024, ... for a head; no log has one there
        if raw.read(len(SIGNATURE)) != SIGNATURE:
            raise DamageError("is no HDF5 file, or its head is lost")
        with h5py.File(raw, "r") as file:
            yield file


def _config(stored: Stored) -> dict[str, Any]:
    """The configuration, which is stored as JSON."""
    if stored.size > MAX_CONFIG:
        raise DamageError(f"declares a configuration of {stored.size} bytes")
    config = json.loads(decode(load("config", stored).tobytes()))
    if not isinstance(config, dict):
        raise DamageError("its configuration is no table")
    return config


def _header(file: h5py.File, kind: str | None) -> tuple[str, dict[str, Attribute]]:
    """The kind and the provenance of a log of this schema."""
    if _attribute(file, "format") != FORMAT:
        reason = "is an HDF5 file, but no log of poisonbench"
        raise DamageError(reason, "name a file that poisonbench wrote")
    _check_schema(_attribute(file, "schema"))
    attributes = _attributes(file)
    del attributes["format"]
    del attributes["schema"]
    if attributes.pop("complete", False) is not True:
        raise DamageError("is not complete")
    found = attributes.pop("kind", None)
    if not isinstance(found, str):
        raise DamageError("does not name its kind")
    if kind not in (None, found):
        raise DamageError(
            f"is of kind {found!r}, not {kind!r}", f"name a log of kind {kind!r}"
        )
    return found, attributes


def _check_schema(schema: Attribute | None) -> None:
    if type(schema) is not int:
        raise DamageError("does not name its schema")
    if schema > SCHEMA:
        reason = f"is of schema {schema}, newer than {SCHEMA}"
        raise DamageError(reason, "upgrade poisonbench to read it")
    if schema < SCHEMA:
        reason = f"is of schema {schema}, older than {SCHEMA}"
        raise DamageError(reason, "read it with the version that wrote it")


def _attribute(group: h5py.Group, name: str) -> Attribute | None:
    """A number or short text; None where there is none, or something else of that name."""
    key = name.encode()
    if not h5py.h5a.exists(group.id, key):
        return None
    return _value(h5py.h5a.open(group.id, key))


def _value(found: h5py.h5a.AttrID) -> Attribute | None:
    """What an attribute holds; None where that is no number and no short text.

    By the functions of HDF5 itself: h5py's own open the group anew for each attribute.
    """
    kind = found.dtype
    if found.shape != () or kind.kind not in "biufS" or kind.itemsize > MAX_ATTRIBUTE:
        return None
    holder = np.empty((), kind)
    found.read(holder)
    value: Attribute | bytes = holder.item()
    if isinstance(value, bytes):
        return decode(value)
    return value


def _attributes(group: h5py.Group) -> dict[str, Attribute]:
    values = {}
    for number in range(h5py.h5a.get_num_attrs(group.id)):
        found = h5py.h5a.open(group.id, index=number)
        name = decode(found.name)
        value = _value(found)
        if value is None:
            raise DamageError(f"its attribute {name!r} is no number or short text")
        values[name] = value
    return values
