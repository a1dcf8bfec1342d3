"""What writing and reading share: the constants of the format, the record, its texts and keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from poisonbench.errors import LogError
from poisonbench.log.fault import one_error

FORMAT = "poisonbench-log"
SCHEMA = 1

MAX_BYTES = 8 << 30  # that the data sets of one log may declare together
MAX_CONFIG = 16 << 20  # bytes of JSON
MAX_ATTRIBUTE = 32 << 10  # bytes; HDF5 itself stops at 64 KiB
MAX_DEPTH = 16

Array: TypeAlias = npt.NDArray[Any]
Attribute: TypeAlias = int | float | str | bool


@dataclass(frozen=True, eq=False)
class Record:
    """One log, as read.

    Attributes:
        path: the file.
        kind: what it holds: "scene", "trace", "influence", "detect", "failure", ...
        config: the resolved configuration of the stage.
        data: the result; "a/b" lies in group a. A text is an array of single bytes (`S1`); `text`
            decodes it.
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

    def words(self, key: str) -> tuple[str, ...]:
        """The list of words stored under `key`, which no log needs to hold: then there are none.

        Raises:
            LogError: it is no list of texts.
        """
        if key not in self.data:
            return ()
        try:
            found = json.loads(self.text(key))
        except ValueError as error:
            raise LogError(self.path, f"its {key!r} is no JSON: {error}") from error
        if not isinstance(found, list) or not all(isinstance(w, str) for w in found):
            raise LogError(self.path, f"its {key!r} is no list of words")
        return tuple(found)


def same_results(a: Record, b: Record) -> bool:
    """Whether kind, configuration and every data set agree bit for bit (a NaN is a NaN).

    Attributes are not compared.
    """
    if a.kind != b.kind:
        return False
    if a.data.keys() != b.data.keys():
        return False
    if canonical(a.config) != canonical(b.config):
        return False
    pairs = [(array, b.data[key]) for key, array in a.data.items()]
    return all(_same(one, other) for one, other in pairs)


def _same(a: Array, b: Array) -> bool:
    if a.dtype != b.dtype:
        return False
    if a.shape != b.shape:
        return False
    if a.dtype.kind == "f":
        nan = np.isnan(a)
        if not np.array_equal(nan, np.isnan(b)):
            return False
        a = a[~nan]
        b = b[~nan]
    return a.tobytes() == b.tobytes()  # bytes, for 0.0 == -0.0


def canonical(config: Mapping[str, Any]) -> str:
    """Returns the JSON of a configuration, one text for equal ones."""
    try:
        return json.dumps(
            dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"config must be a table that JSON can hold: {error}"
        ) from error


def decode(raw: bytes) -> str:
    """Returns the text of `encode`."""
    return raw.decode("utf-8", "surrogatepass")  # a file name may hold lone surrogates


def encode(text: str) -> bytes:
    """Returns the bytes under which a text is stored."""
    return text.encode("utf-8", "surrogatepass")


def checked_key(key: str) -> str:
    """Returns the key, if a log can hold a thing of that name."""
    parts = key.split("/")
    named = all(part not in ("", ".", "..") for part in parts)
    if not (named and key.isprintable() and len(parts) <= MAX_DEPTH):
        raise ValueError(
            "a key must be printable names with single slashes between them, "
            f"at most {MAX_DEPTH}, got {key!r}"
        )
    return key


def is_storable(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    """Whether a log holds such arrays: numbers and truth values of up to 64 bits, and texts."""
    is_text = dtype == "S1" and len(shape) == 1
    is_number = dtype.kind in "biuf" and dtype.itemsize <= 8
    return is_text or is_number
