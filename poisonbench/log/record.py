"""What writing and reading share: the constants of the format, the record, its texts and keys, and the one error of reading."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from poisonbench.errors import LogError

FORMAT = "poisonbench-log"
SCHEMA = 1

MAX_BYTES = 8 << 30  # that the data sets of one log may declare together
MAX_CONFIG = 16 << 20  # bytes of JSON
MAX_ATTRIBUTE = 32 << 10  # bytes; HDF5 itself stops at 64 KiB
MAX_DEPTH = 16

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = int | float | str | bool

AGAIN = "delete it and run the same command again: only this stage is done anew"


class DamageError(Exception):
    """A fault of the file being read; `one_error` adds the path."""

    def __init__(self, reason: str, hint: str = AGAIN) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@contextmanager
def one_error(path: Path) -> Iterator[None]:
    """Turns whatever is raised inside into one `LogError` of `path`."""
    try:
        yield
    except LogError:
        raise
    except DamageError as damage:
        raise LogError(path, damage.reason, damage.hint) from None
    except (
        Exception
    ) as error:  # h5py raises a dozen types on bad files; each of them means damage here
        raise LogError(path, f"is damaged: {str(error) or type(error).__name__}", AGAIN) from error


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
        with one_error(self.path):
            return decode(array.tobytes())


def same_results(a: Record, b: Record) -> bool:
    """Whether kind, configuration and every data set agree bit for bit (a NaN is a NaN); attributes are not compared."""
    if (a.kind, canonical(a.config), a.data.keys()) != (b.kind, canonical(b.config), b.data.keys()):
        return False
    return all(_same(array, b.data[key]) for key, array in a.data.items())


def _same(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        nan = np.isnan(a)
        if not np.array_equal(nan, np.isnan(b)):
            return False
        a, b = a[~nan], b[~nan]
    return a.tobytes() == b.tobytes()  # bytes, for 0.0 == -0.0


def canonical(config: Mapping[str, Any]) -> str:
    """Returns the JSON of a configuration, one text for equal ones."""
    try:
        return json.dumps(dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"config must be a table that JSON can hold: {error}") from error


def decode(raw: bytes) -> str:
    """Returns the text of `encode`."""
    return raw.decode(
        "utf-8", "surrogatepass"
    )  # a file name in a traceback may hold lone surrogates


def encode(text: str) -> bytes:
    """Returns the bytes under which a text is stored."""
    return text.encode("utf-8", "surrogatepass")


def checked_key(key: str) -> str:
    """Returns the key, if a log can hold a thing of that name."""
    parts = key.split("/")
    if (
        not key.isprintable()
        or len(parts) > MAX_DEPTH
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ValueError(
            f"a key must be printable names with single slashes between them, at most {MAX_DEPTH}, got {key!r}"
        )
    return key


def is_storable(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether a log holds arrays of this type: numbers and truth values of up to 64 bits, and texts."""
    return (dtype == "S1" and len(shape) == 1) or (dtype.kind in "biuf" and dtype.itemsize <= 8)
