"""The image of a log in memory: HDF5 with every byte of data under a checksum."""

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import h5py
import numpy as np

from poisonbench.log.record import FORMAT, SCHEMA, Array, Attribute, encode

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_BYTES = 256 << 10
PACKED = {
    "compression": "gzip",
    "compression_opts": 4,
    "shuffle": True,
    "fletcher32": True,
}


class _Image(io.BytesIO):
    """The file into which HDF5 writes: its own one in memory would have to be copied.

    HDF5 must not be told of an error while it writes, or the process dies when it ends.

    Attributes:
        is_whole: whether there was memory for all that was written.
    """

    is_whole = True

    def write(self, part: "ReadableBuffer") -> int:
        """Writes bytes, or drops them where there is no memory."""
        try:
            return super().write(part)
        except MemoryError:
            self.is_whole = False
            return memoryview(part).nbytes


def file_image(
    arrays: Mapping[str, Array],
    header: Mapping[str, Attribute],
    own: Mapping[str, Attribute],
) -> memoryview:
    """Returns the bytes of a log.

    Args:
        arrays: the data sets, `config` among them.
        header: root attributes.
        own: attributes of the stage.

    Raises:
        MemoryError: there is not enough.
    """
    image = _Image()
    with h5py.File(image, "w", libver=("v110", "v110")) as file:
        _attach(file, {"format": FORMAT, "schema": SCHEMA, **header})
        _attach(file.create_group("attributes"), own)
        for key, array in arrays.items():
            _store(file, key, array)
        _attach(file, {"complete": True})
    if not image.is_whole:
        raise MemoryError
    return image.getbuffer()


def _attach(group: h5py.Group, attributes: Mapping[str, Attribute]) -> None:
    """Writes attributes; texts of fixed length, as others lie in a heap without a checksum."""
    for name, value in attributes.items():
        if isinstance(value, str):
            raw = encode(value)
            kind = h5py.string_dtype("utf-8", max(1, len(raw)))
            group.attrs.create(name, raw, dtype=kind)
        else:
            group.attrs.create(name, value)


def _store(file: h5py.File, key: str, array: Array) -> None:
    if array.ndim and array.size:
        chunks = chunks_of(array.shape, array.itemsize)
        file.create_dataset(key, data=array, chunks=chunks, **PACKED)
    else:
        _store_compact(file, key, array)


def _store_compact(file: h5py.File, key: str, array: Array) -> None:
    """Writes what cannot be chunked into the object header.

    h5py's own call forgets the layout of a scalar.
    """
    parent, _, name = key.rpartition("/")
    group = file.require_group(parent or "/")
    kind = h5py.h5t.py_create(array.dtype, logical=True)
    space = h5py.h5s.create_simple(array.shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    stored = h5py.h5d.create(group.id, name.encode(), kind, space, layout)
    stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(array))


def chunks_of(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """One row of the first axis; several of small rows, a part of a huge one: `CHUNK_BYTES`."""
    chunks: list[int] = []
    room = CHUNK_BYTES // itemsize
    for length in reversed(shape):
        step = max(1, min(length, room // math.prod(chunks)))
        chunks.insert(0, step)
    return tuple(chunks)
