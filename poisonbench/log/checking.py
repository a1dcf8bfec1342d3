"""The refusal of hostile content, before any array is read.

Links, types, sizes, storage, and chunks that inflate to more than they should.
"""

import itertools
import math
import zlib
from collections.abc import Collection, Iterable
from typing import Any

import h5py

from poisonbench.log.fault import DamageError
from poisonbench.log.record import MAX_BYTES, checked_key, is_storable

# deflate packs at most 1032 : 1, so a file that declares more bytes than this per byte lies
MAX_RATIO = 1100
MAX_CHUNK = 4 << 20  # bytes
MAX_OBJECTS = 100_000
CHECKSUM = 4  # bytes at the end of a chunk
FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]


def walk(file: h5py.File, size: int) -> dict[str, h5py.Dataset]:
    """Returns all data sets by key, each checked without reading it.

    Args:
        file: the open file.
        size: of the file, in bytes.

    Raises:
        DamageError: something is there that no log has.
    """
    room = min(MAX_BYTES, MAX_RATIO * size)
    found: dict[str, h5py.Dataset] = {}
    seen = {_address(file)}
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            key = checked_key(prefix + name)
            child = _child(group, name, key)
            if isinstance(child, h5py.Dataset):
                found[key] = child
                room -= _checked_size(key, child, room)
            else:
                pending.append((key + "/", child))
            address = _address(child)
            if address in seen or len(seen) >= MAX_OBJECTS:
                raise DamageError(
                    f"{key!r} is a second name of one object, or one of more than {MAX_OBJECTS}"
                )
            seen.add(address)
    return found


def _address(thing: Any) -> Any:
    """Where an object lies in its file: what two names of one object share."""
    return h5py.h5o.get_info(thing.id).addr


def _child(group: h5py.Group, name: str, key: str) -> h5py.Dataset | h5py.Group:
    """The group or data set of a name that is no link to elsewhere."""
    link = group.get(name, getlink=True)
    if "/" in name or not isinstance(link, h5py.HardLink):
        raise DamageError(f"{key!r} is a link to elsewhere, which no log has")
    child = group[name]
    if not isinstance(child, h5py.Dataset | h5py.Group):
        raise DamageError(f"{key!r} is neither a group nor a data set")
    return child


def _checked_size(key: str, dataset: h5py.Dataset, room: int) -> int:
    """The bytes that a data set declares.

    They are known to be there, stored as a log stores them, and at most `room`.
    """
    plan = dataset.id.get_create_plist()
    layout = plan.get_layout()
    if plan.get_external_count() or layout not in (h5py.h5d.COMPACT, h5py.h5d.CHUNKED):
        raise DamageError(
            f"the data of {key!r} lie without a checksum, or outside the file"
        )
    shape = dataset.shape
    if shape is None or not is_storable(dataset.dtype, shape):
        raise DamageError(f"{key!r} is of type {dataset.dtype}, which no log has")
    size: int = math.prod(shape) * dataset.dtype.itemsize
    if size > room:
        raise DamageError(
            f"declares {size} bytes for {key!r}, more than a log of its size can hold"
        )
    if not _is_whole(dataset, size, plan):
        raise DamageError(
            f"the data of {key!r} are not all there, or not as a log stores them"
        )
    return size


def _is_whole(dataset: h5py.Dataset, size: int, plan: Any) -> bool:
    """Whether all bytes of a data set are stored, and as a log stores them."""
    if plan.get_layout() == h5py.h5d.CHUNKED:
        return _has_all_chunks(dataset, plan)
    stored: int = dataset.id.get_storage_size()
    return stored == size


def _has_all_chunks(dataset: h5py.Dataset, plan: Any) -> bool:
    """Whether every chunk is stored, of a sane size, and under a checksum.

    HDF5 reads chunks that are not there as zeros.
    """
    count = plan.get_nfilters()
    filters = [plan.get_filter(i)[0] for i in range(count)]
    if filters != FILTERS or _chunk_bytes(dataset) > MAX_CHUNK:
        return False
    expected = math.prod(len(starts) for starts in _starts(dataset))
    stored: int = dataset.id.get_num_chunks()
    return stored == expected


def _chunk_bytes(dataset: h5py.Dataset) -> int:
    size: int = math.prod(dataset.chunks) * dataset.dtype.itemsize
    return size


def _starts(dataset: h5py.Dataset) -> list[range]:
    """Along each axis, where its chunks start."""
    axes = zip(dataset.shape, dataset.chunks, strict=True)
    return [range(0, length, step) for length, step in axes]


def check_inflation(dataset: h5py.Dataset, rows: Collection[int] | None = None) -> None:
    """Refuses a data set with a chunk that does not hold what it should.

    HDF5 inflates a chunk to whatever its stream holds: a forged one would take all memory, or yield
    stray bytes of the heap.

    Args:
        dataset: in chunks.
        rows: along its first axis, that are to be read; None: all.
    """
    size = _chunk_bytes(dataset)
    first, *others = _starts(dataset)
    starts: Iterable[int] = first
    if rows is not None:
        starts = sorted({row - row % first.step for row in rows})
    for start in itertools.product(starts, *others):
        skipped, raw = dataset.id.read_direct_chunk(start)
        if skipped or not _inflates_to(memoryview(raw)[:-CHECKSUM], size):
            raise DamageError(
                f"a chunk of {dataset.name!r} does not hold the {size} bytes that it should"
            )


def _inflates_to(packed: memoryview, size: int) -> bool:
    """Whether a deflated stream holds exactly `size` bytes; at most one further is unpacked."""
    stream = zlib.decompressobj()
    inflated = len(stream.decompress(packed, size + 1))
    return inflated == size and stream.eof
