"""The arrays of an open log: whole, some rows, or a part at a time."""

from collections.abc import Iterator, Sequence

import h5py
import numpy as np

from poisonbench.log.checking import Stored, check_inflation
from poisonbench.log.fault import DamageError
from poisonbench.log.record import Array

AT_ONCE = 16 << 20  # bytes held of what is read a part at a time


def load(key: str, stored: Stored, rows: Sequence[int] | None = None) -> Array:
    """Returns a data set, or some rows along its first axis.

    Args:
        key: of the data set.
        stored: the data set, checked.
        rows: ascending, each once; None: all.

    Raises:
        DamageError: it has not these rows, or does not hold what it should.
    """
    if rows is not None and not _has_rows(stored, rows):
        raise DamageError(f"{key!r} has not the rows that it should")
    check_inflation(key, stored, rows)
    array: Array
    if rows is None:
        array = np.empty(stored.shape, stored.dtype)
        stored.id.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    else:
        array = np.asarray(h5py.Dataset(stored.id)[_index(rows)])
    if array.dtype.kind == "b":
        largest = array.view(np.uint8).max(initial=0)
        if largest > 1:
            raise DamageError(
                f"{key!r} holds truth values that are neither true nor false"
            )
    native = array.dtype.newbyteorder("=")
    return array.astype(native, copy=False)


def parts_of(key: str, stored: Stored) -> Iterator[Array]:
    """Yields a data set whole if it is small, else some of its rows at a time, in order."""
    if stored.chunk is None or stored.size <= AT_ONCE:
        yield load(key, stored)
        return
    length = stored.shape[0]
    of_row = stored.size // length
    chunks = AT_ONCE // (of_row * stored.chunk[0])
    step = stored.chunk[0] * max(1, chunks)
    for start in range(0, length, step):
        stop = min(start + step, length)
        yield load(key, stored, range(start, stop))


def read_through(key: str, stored: Stored) -> None:
    """Reads a data set whole, but holds no more than a part of it."""
    for _ in parts_of(key, stored):
        pass


def _has_rows(stored: Stored, rows: Sequence[int]) -> bool:
    """Whether a data set has an axis with all of these rows."""
    if not stored.shape:
        return False
    return all(0 <= row < stored.shape[0] for row in rows)


def _index(rows: Sequence[int]) -> slice | list[int]:
    """What names rows to h5py: of neighbours a slice, which is read much faster."""
    if isinstance(rows, range) and rows.step == 1:
        return slice(rows.start, rows.stop)
    return list(rows)
