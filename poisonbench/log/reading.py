"""Reading: every fault of a file, whatever HDF5 calls it, is one `LogError`."""

import json
from collections.abc import Collection
from pathlib import Path

import h5py
import numpy as np

from poisonbench.log.checking import check_inflation, walk
from poisonbench.log.record import (
    FORMAT,
    MAX_ATTRIBUTE,
    MAX_CONFIG,
    SCHEMA,
    Array,
    Attribute,
    DamageError,
    Record,
    decode,
    one_error,
)


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
    with one_error(path), _open(path) as file:
        found_kind, attributes = _header(file, kind)
        found = walk(file, path.stat().st_size)
        attributes.update(_attributes(file["attributes"]))
        text = found.pop("config")
        if text.size > MAX_CONFIG:
            raise DamageError(f"declares a configuration of {text.size} bytes")
        config = json.loads(decode(_load(text).tobytes()))
        if not isinstance(config, dict):
            raise DamageError("its configuration is no table")
        if lacking := sorted(set(keys or ()) - set(found)):
            raise DamageError(
                f"has no data set {lacking[0]!r}", f"it has: {', '.join(sorted(found)) or 'none'}"
            )
        data = {
            key: _load(dataset)
            for key, dataset in sorted(found.items())
            if keys is None or key in keys
        }
        return Record(path, found_kind, config, data, attributes)


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise DamageError("does not exist", "run the stage that writes it")
    if not path.is_file():  # a pipe would wait for ever
        raise DamageError("is no regular file", "name a log")
    if path.stat().st_size == 0:
        raise DamageError("is empty")
    with path.open(
        "rb"
    ) as file:  # HDF5 would also search at 512, 1024, ... for a head; no log has one there
        if file.read(8) != b"\x89HDF\r\n\x1a\n":
            raise DamageError("is no HDF5 file, or its head is lost")
    return h5py.File(
        path, "r", locking=False
    )  # a finished log never changes, and locks fail on some network file systems


def _header(file: h5py.File, kind: str | None) -> tuple[str, dict[str, Attribute]]:
    """The kind and the provenance of a log of this schema."""
    if _attribute(file, "format") != FORMAT:
        raise DamageError(
            "is an HDF5 file, but no log of poisonbench", "name a file that poisonbench wrote"
        )
    schema = _attribute(file, "schema")
    if type(schema) is not int:
        raise DamageError("does not name its schema")
    if schema > SCHEMA:
        raise DamageError(
            f"is of schema {schema}, newer than {SCHEMA}", "upgrade poisonbench to read it"
        )
    if schema < SCHEMA:
        raise DamageError(
            f"is of schema {schema}, older than {SCHEMA}",
            "read it with the version that wrote it, or delete it and run again",
        )
    attributes = _attributes(file)
    if attributes.pop("complete", False) is not True:
        raise DamageError("is not complete")
    found = attributes.pop("kind", None)
    if not isinstance(found, str):
        raise DamageError("does not name its kind")
    if kind not in (None, found):
        raise DamageError(f"is of kind {found!r}, not {kind!r}", f"name a log of kind {kind!r}")
    return found, {
        name: value for name, value in attributes.items() if name not in ("format", "schema")
    }


def _attribute(group: h5py.Group, name: str) -> Attribute | None:
    """A number or short text; None where there is none, or something else of that name."""
    if name not in group.attrs:
        return None
    found = h5py.h5a.open(group.id, name.encode())
    if found.shape != () or found.dtype.kind not in "biufS" or found.dtype.itemsize > MAX_ATTRIBUTE:
        return None
    value = group.attrs[name]
    return decode(value) if isinstance(value, bytes) else value.item()


def _attributes(group: h5py.Group) -> dict[str, Attribute]:
    values = {}
    for name in group.attrs:
        value = _attribute(group, name)
        if value is None:
            raise DamageError(f"its attribute {name!r} is no number or short text")
        values[name] = value
    return values


def _load(dataset: h5py.Dataset) -> Array:
    if dataset.chunks:
        check_inflation(dataset)
    array = np.asarray(dataset[()])
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise DamageError(f"{dataset.name!r} holds truth values that are neither true nor false")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
