"""The refusal of hostile content, before any array is read.

Links, types, sizes, storage, and chunks that inflate to more than they should.
"""

import itertools
import math
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from poisonbench.log.fault import DamageError
from poisonbench.log.record import MAX_BYTES, checked_key, decode, is_storable

# deflate packs at most 1032 : 1, so a file that declares more bytes than this per byte lies
MAX_RATIO = 1100
MAX_CHUNK = 4 << 20  # bytes
MAX_OBJECTS = 100_000
CHECKSUM = 4  # bytes at the end of a chunk
FILTERS = [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32]


@dataclass(frozen=True, eq=False)
class Stored:
    """A data set of a file, as it was found when it was checked.

    Each of these is asked of HDF5 once: what h5py makes for an answer takes most of the time of
    reading a log, and its own classes ask more often.

    Attributes:
        id: h5py.h5d.DatasetID.
        shape: of the array.
        dtype: of the array.
        chunk: shape of a chunk; None where it is not stored in chunks.
    """

    id: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...] | None

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def walk(file: h5py.File, size: int) -> dict[str, Stored]:
    """Returns all data sets by key, each checked without reading it.

    Args:
        file: the open file.
        size: of the file, in bytes.

    Raises:
        DamageError: something is there that no log has.
    """
    room = min(MAX_BYTES, MAX_RATIO * size)
    found: dict[str, Stored] = {}
    root = h5py.h5g.open(file.id, b"/")
    seen = {_address(root)}
    pending: list[tuple[str, Any]] = [("", root)]
    while pending:
        prefix, group = pending.pop()
        for name in group:
            key = checked_key(prefix + decode(name))
            child = _child(group, name, key)
            if isinstance(child, h5py.h5d.DatasetID):
                found[key] = _checked(key, child, room)
                room -= found[key].size
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
    return h5py.h5o.get_info(thing).addr


def _child(group: Any, name: bytes, key: str) -> Any:
    """The group or data set of a name that is no link to elsewhere."""
    kind = group.links.get_info(name).type
    if b"/" in name or kind != h5py.h5l.TYPE_HARD:
        raise DamageError(f"{key!r} is a link to elsewhere, which no log has")
    child = h5py.h5o.open(group, name)
    if not isinstance(child, h5py.h5d.DatasetID | h5py.h5g.GroupID):
        raise DamageError(f"{key!r} is neither a group nor a data set")
    return child


def _checked(key: str, dataset: Any, room: int) -> Stored:
    """A data set that is all there, stored as a log stores it, of at most `room` bytes."""
    plan = dataset.get_create_plist()
    layout = plan.get_layout()
    if plan.get_external_count() or layout not in (h5py.h5d.COMPACT, h5py.h5d.CHUNKED):
        raise DamageError(
            f"the data of {key!r} lie without a checksum, or outside the file"
        )
    chunk = None
    if layout == h5py.h5d.CHUNKED:
        chunk = plan.get_chunk()
    space = dataset.get_space()
    stored = Stored(dataset, space.get_simple_extent_dims(), dataset.dtype, chunk)
    is_null = space.get_simple_extent_type() == h5py.h5s.NULL
    if is_null or not is_storable(stored.dtype, stored.shape):
        raise DamageError(f"{key!r} is of type {stored.dtype}, which no log has")
    if stored.size > room:
        raise DamageError(
            f"declares {stored.size} bytes for {key!r}, more than a log of its size can hold"
        )
    if not _is_whole(stored, plan):
        raise DamageError(
            f"the data of {key!r} are not all there, or not as a log stores them"
        )
    return stored


def _is_whole(stored: Stored, plan: Any) -> bool:
    """Whether all bytes are stored, and chunks of a sane size, each under a checksum.

    HDF5 reads chunks that are not there as zeros.
    """
    if stored.chunk is None:
        found: int = stored.id.get_storage_size()
        return found == stored.size
    count = plan.get_nfilters()
    filters = [plan.get_filter(i)[0] for i in range(count)]
    if filters != FILTERS or _chunk_bytes(stored, stored.chunk) > MAX_CHUNK:
        return False
    starts = _starts(stored.shape, stored.chunk)
    expected = math.prod(len(along) for along in starts)
    chunks: int = stored.id.get_num_chunks()
    return chunks == expected


def _chunk_bytes(stored: Stored, chunk: tuple[int, ...]) -> int:
    return math.prod(chunk) * stored.dtype.itemsize


def _starts(shape: tuple[int, ...], chunk: tuple[int, ...]) -> list[range]:
    """Along each axis, where its chunks start."""
    axes = zip(shape, chunk, strict=True)
    return [range(0, length, step) for length, step in axes]


def check_inflation(
    key: str, stored: Stored, rows: Collection[int] | None = None
) -> None:
    """Refuses a data set with a chunk that does not hold what it should.

    HDF5 inflates a chunk to whatever its stream holds: a forged one would take all memory, or yield
    stray bytes of the heap.

    Args:
        key: of the data set.
        stored: the data set.
        rows: along its first axis, that are to be read; None: all.
    """
    if stored.chunk is None:
        return
    size = _chunk_bytes(stored, stored.chunk)
    first, *others = _starts(stored.shape, stored.chunk)
    starts: Iterable[int] = first
    if rows is not None:
        starts = sorted({row - row % first.step for row in rows})
    for start in itertools.product(starts, *others):
        skipped, raw = stored.id.read_direct_chunk(start)
        if skipped or not _inflates_to(memoryview(raw)[:-CHECKSUM], size):
            raise DamageError(
                f"a chunk of {key!r} does not hold the {size} bytes that it should"
            )


def _inflates_to(packed: memoryview, size: int) -> bool:
    """Whether a deflated stream holds exactly `size` bytes; at most one further is unpacked."""
    stream = zlib.decompressobj()
    inflated = len(stream.decompress(packed, size + 1))
    return inflated == size and stream.eof
