"""Writing: what a log can hold, and its image in memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from poisonbench.errors import LogWriteError
from poisonbench.log.placing import place, temporary_beside
from poisonbench.log.provenance import provenance
from poisonbench.log.record import (
    FORMAT,
    MAX_ATTRIBUTE,
    MAX_BYTES,
    MAX_CONFIG,
    SCHEMA,
    Array,
    Attribute,
    canonical,
    checked_key,
    encode,
    is_storable,
)

if TYPE_CHECKING:
    import torch

CHUNK_BYTES = 256 << 10


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
    arrays = {checked_key(key): _array(key, value) for key, value in data.items()}
    if clash := sorted(key for key in arrays if key.split("/")[0] in ("attributes", "config")):
        raise ValueError(f"data {clash[0]!r}: the names attributes and config are the log's own")
    if clash := sorted(
        key for key in arrays if any(str(parent) in arrays for parent in Path(key).parents)
    ):
        raise ValueError(f"data {clash[0]!r}: a data set cannot lie inside another")
    arrays["config"] = _array("config", canonical(config))
    if (size := sum(array.nbytes for array in arrays.values())) > MAX_BYTES:
        raise ValueError(
            f"a log holds at most {MAX_BYTES} bytes, got {size}; split it or store less"
        )
    if arrays["config"].nbytes > MAX_CONFIG:
        raise ValueError(
            f"config holds at most {MAX_CONFIG} bytes of JSON, got {arrays['config'].nbytes}"
        )
    header = {
        name: _checked_attribute(name, value)
        for name, value in {"kind": kind, **provenance()}.items()
    }
    own = {checked_key(name): _checked_attribute(name, value) for name, value in attributes.items()}
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        image = _image(temporary.name, arrays, header, own)
    except (OSError, MemoryError) as error:
        raise LogWriteError(
            path, f"no memory to build the image of {size} bytes of data: {error}"
        ) from error
    place(path, temporary, image)


def _checked_attribute(name: str, value: Any) -> Attribute:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str):
        raise TypeError(
            f"attribute {name!r} must be int, float, str or bool, got {type(value).__name__}"
        )
    if isinstance(value, str) and ("\0" in value or len(encode(value)) > MAX_ATTRIBUTE):
        raise ValueError(
            f"attribute {name!r} must be at most {MAX_ATTRIBUTE} bytes without NUL; store a longer text as data"
        )
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"attribute {name!r} must fit in 64 bits, got {value}")
    return value


def _array(key: str, value: Any) -> Array:
    if isinstance(value, str):
        return np.frombuffer(encode(value), dtype="S1")
    torch = sys.modules.get(
        "torch"
    )  # who holds a tensor has imported it; who only reads logs is spared the seconds that takes
    if torch is not None and isinstance(value, torch.Tensor):
        try:
            value = value.detach().cpu().resolve_neg()
            value = (value.float() if value.dtype is torch.bfloat16 else value).numpy()
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"data {key!r}: a log cannot hold this tensor: {error}") from error
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"data {key!r} must be a tensor, an array or a str, got {type(value).__name__}"
        )
    if not is_storable(value.dtype, value.shape):
        raise TypeError(
            f"data {key!r} must be of bool, int, uint or float up to 64 bits, got {value.dtype}"
        )
    return value.astype(value.dtype.newbyteorder("<"), copy=False)


def _image(
    name: str,
    arrays: Mapping[str, Array],
    header: Mapping[str, Attribute],
    own: Mapping[str, Attribute],
) -> bytes:
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
        if isinstance(
            value, str
        ):  # of fixed length: texts of variable length lie in a heap without a checksum
            raw = encode(value)
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
        stored = h5py.h5d.create(
            group.id, name.encode(), h5py.h5t.py_create(array.dtype, logical=True), space, layout
        )
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(array))


def _chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """One row of the first axis; several if rows are small, a part of one if it is huge: at most `CHUNK_BYTES`."""
    chunks: list[int] = []
    for length in reversed(shape):
        chunks.insert(0, max(1, min(length, CHUNK_BYTES // (itemsize * math.prod(chunks)))))
    return tuple(chunks)
