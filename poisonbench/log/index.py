"""An index of the logs that were read whole: evaluation of many logs opens only the new ones.

It is derived and safe to delete. A log of another size or time than its entry is read again, and an
index that is damaged, foreign or cannot be written is as good as none.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from poisonbench.log.record import Array, Record, is_storable

FILE = ".index.sqlite"  # hidden, so that scenes/* names scenes alone
LAYOUT = 1  # of the entries; part of the name of the table
TABLE = f"logs_{LAYOUT}"
CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} "
    "(path TEXT PRIMARY KEY, mark TEXT, head TEXT, content BLOB)"
)
FIND = f"SELECT path, mark, head, content FROM {TABLE}"  # noqa: S608 - a constant
STORE = f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?)"  # noqa: S608
Entry = tuple[str, str, str, bytes]


class Index:
    """What is known of the logs of a run's folder."""

    def __init__(self, root: Path, entries: dict[str, Entry]) -> None:
        self._root = root
        self._entries = entries
        self.new: dict[str, Entry] = {}

    def find(self, path: Path) -> Record | None:
        """Returns the record of a log as it was kept; None where it is not, or has changed."""
        entry = self._entries.get(self._name(path))
        if entry is None or entry[1] != _mark(path):
            return None
        try:
            return _unpacked(path, entry)
        except (
            ValueError,
            KeyError,
            TypeError,
        ):  # another's file: read the log instead
            return None

    def keep(self, path: Path, record: Record) -> None:
        """Keeps the record of a log that was read whole."""
        name = self._name(path)
        head, content = _packed(record)
        self.new[name] = (name, _mark(path), head, content)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()


@contextmanager
def opened(root: Path) -> Iterator[Index]:
    """Gives the index of the logs below a folder, and writes what was kept when the block ends."""
    path = root / FILE
    index = Index(root, _read(path))
    yield index
    if index.new:
        _write(path, list(index.new.values()))


def _read(path: Path) -> dict[str, Entry]:
    """The entries of an index; none where it is not there, damaged or of another layout."""
    if not path.is_file():
        return {}
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as base:
            rows = base.execute(FIND).fetchall()
    except sqlite3.Error:
        return {}
    return {row[0]: row for row in rows}


def _write(path: Path, entries: list[Entry]) -> None:
    """Adds entries; an index that cannot be written is made anew once, and then left."""
    for _ in range(2):
        try:
            with closing(sqlite3.connect(path, timeout=1)) as base, base:
                base.execute(CREATE)
                base.executemany(STORE, entries)
        except sqlite3.OperationalError:  # no permission, no room, or another writes
            return
        except sqlite3.Error:
            with suppress(OSError):
                path.unlink()
        else:
            return


def _mark(path: Path) -> str:
    """What a change of a file changes."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _packed(record: Record) -> tuple[str, bytes]:
    """A record as a head in JSON and the bytes of its arrays, one behind the other."""
    arrays = {}
    parts = []
    for name, array in record.data.items():
        arrays[name] = (array.dtype.str, array.shape)
        parts.append(np.ascontiguousarray(array).tobytes())
    head = {
        "kind": record.kind,
        "config": record.config,
        "attributes": record.attributes,
        "arrays": arrays,
    }
    return json.dumps(head), b"".join(parts)


def _unpacked(path: Path, entry: Entry) -> Record:
    """Undoes `_packed`; raises ValueError, KeyError or TypeError for what it did not write."""
    _, _, head, content = entry
    told: dict[str, Any] = json.loads(head)
    data: dict[str, Array] = {}
    start = 0
    for name, (form, shape) in told["arrays"].items():
        dtype = np.dtype(form)
        if not is_storable(dtype, tuple(shape)):
            raise ValueError(f"{form} is not stored in logs")
        size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        values = np.frombuffer(content[start : start + size], dtype)
        data[name] = values.reshape(shape)
        start += size
    return Record(path, told["kind"], told["config"], data, told["attributes"])
