"""The refusal of hostile content, before any array is read: links, types, sizes, storage, and chunks that inflate."""

import itertools
import math
import zlib
from typing import Any

import h5py

from poisonbench.log.record import MAX_BYTES, DamageError, checked_key, is_storable

MAX_RATIO = 1100  # deflate cannot pack more than 1032 : 1, so a file that declares more bytes than this per byte lies
MAX_CHUNK = 4 << 20  # bytes
MAX_OBJECTS = 100_000


def walk(file: h5py.File, size: int) -> dict[str, h5py.Dataset]:
    """Returns all data sets by key, each checked without reading it; `size` is the file's, in bytes."""
    room = min(MAX_BYTES, MAX_RATIO * size)
    found: dict[str, h5py.Dataset] = {}
    seen = {h5py.h5o.get_info(file.id).addr}
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            key = checked_key(prefix + name)
            if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DamageError(f"{key!r} is a link to elsewhere, which no log has")
            child = group[name]
            if isinstance(child, h5py.Dataset):
                found[key] = child
                room -= _checked_size(key, child, room)
            elif isinstance(child, h5py.Group):
                pending.append((key + "/", child))
            else:
                raise DamageError(f"{key!r} is neither a group nor a data set")
            address = h5py.h5o.get_info(child.id).addr
            if address in seen or len(seen) >= MAX_OBJECTS:
                raise DamageError(
                    f"{key!r} is a second name of one object, or one of more than {MAX_OBJECTS}"
                )
            seen.add(address)
    return found


def _checked_size(key: str, dataset: h5py.Dataset, room: int) -> int:
    """The bytes that a data set declares, once they are known to be there, stored as a log stores them, and at most `room`."""
    plan = dataset.id.get_create_plist()
    if plan.get_external_count() or plan.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CHUNKED):
        raise DamageError(f"the data of {key!r} lie without a checksum, or outside the file")
    shape, dtype = dataset.shape, dataset.dtype
    if shape is None or not is_storable(dtype, shape):
        raise DamageError(f"{key!r} is of type {dtype}, which no log has")
    size: int = math.prod(shape) * dtype.itemsize
    if size > room:
        raise DamageError(
            f"declares {size} bytes for {key!r}, more than a log of its size can hold"
        )
    compact = plan.get_layout() == h5py.h5d.COMPACT
    if not (dataset.id.get_storage_size() == size if compact else _has_all_chunks(dataset, plan)):
        raise DamageError(f"the data of {key!r} are not all there, or not as a log stores them")
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
    return [
        range(0, length, step) for length, step in zip(dataset.shape, dataset.chunks, strict=True)
    ]


def check_inflation(dataset: h5py.Dataset) -> None:
    """Refuses a data set with a chunk that does not hold what it should.

    HDF5 inflates a chunk to whatever its stream holds: a forged one would take all memory, or yield stray bytes of the heap.
    """
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for start in itertools.product(*_starts(dataset)):
        skipped, raw = dataset.id.read_direct_chunk(start)
        stream = zlib.decompressobj()
        inflated = (
            -1 if skipped else len(stream.decompress(memoryview(raw)[:-4], size + 1))
        )  # the last 4 bytes are the checksum
        if inflated != size or not stream.eof:
            raise DamageError(
                f"a chunk of {dataset.name!r} does not hold the {size} bytes that it should"
            )
