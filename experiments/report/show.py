"""What a log holds, as text for people."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.report.instances import TOLD, instances
from poisonbench import log
from poisonbench.errors import ConfigError
from poisonbench.log import Array, Record

MOST_LETTERS = 200  # of a text
AT_ONCE = 1 << 21  # values: a larger data set is read a part at a time


def describe(path: Path) -> str:
    """Returns kind, configuration, data sets (type, shape, range) and attributes of a log.

    Of instances that have words or names of features, the first rows are told in them. What is
    large is read a part at a time.

    Raises:
        LogError: the log is damaged.
    """
    shapes = log.shapes(path)
    whole = [key for key, shape in shapes.items() if _is_read_whole(key, shape)]
    record = log.read(path, keys=whole)
    summaries = {}
    for key in sorted(shapes):
        if key in record.data:
            summaries[key] = _summary([record.data[key]])
        else:
            summaries[key] = _summary(log.parts(path, key))
    return _described(record, summaries)


def check_is_file(path: Path) -> None:
    """Raises ConfigError for a folder, which names a log in it."""
    if not path.is_dir():
        return
    logs = sorted(path.rglob("*.h5"))
    count = "1 log" if len(logs) == 1 else f"{len(logs)} logs"
    told = f"{path} is a folder with {count}: show takes the files"
    if not logs:
        raise ConfigError([told], "a run writes logs: poisonbench run GRID.toml -o DIR")
    hint = f"one of them: poisonbench show {logs[0]}"
    if (path / "scenes").is_dir():
        hint += f"; the results of all: poisonbench evaluate {path}"
    raise ConfigError([told], hint)


def _is_read_whole(key: str, shape: tuple[int, ...]) -> bool:
    """Whether a data set is small, or its instances are told in words."""
    has_words = key in TOLD and len(shape) == 2
    return has_words or math.prod(shape) <= AT_ONCE


def _described(record: Record, summaries: Mapping[str, str]) -> str:
    """The text about a log.

    Args:
        record: with what of its data is small.
        summaries: of all data sets, by key.
    """
    config = json.dumps(record.config, indent=2).splitlines()[1:-1]
    width = max((len(key) for key in summaries), default=0)
    lines = [str(record.path), f"kind: {record.kind}", "", "configuration:"]
    lines += [f"  {line}" for line in config]
    lines += ["", "data:"]
    for key, summary in summaries.items():
        lines.append(f"  {_printable(key):{width}}  {summary}")
    told = [f"  {_printable(line)}" for line in instances(record)]
    if told:
        lines += ["", "instances:", *told]
    lines += ["", "attributes:"]
    for key, attribute in sorted(record.attributes.items()):
        text = _printable(str(attribute))
        lines.append(f"  {_printable(key)}: {text}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """A log is untrusted: no control characters reach the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _summary(parts: Iterable[Array]) -> str:
    """Type, shape and range of an array, or the text that it holds.

    Args:
        parts: of the array along its first axis, in order.
    """
    found = Summary()
    for part in parts:
        if part.dtype.kind == "S":
            text = part.tobytes().decode("utf-8", "replace")
            return _printable(text[:MOST_LETTERS].replace("\0", ""))
        if part.ndim == 0:
            return f"{part.dtype} {part}"
        found.add(part)
    return found.told()


@dataclass
class Summary:
    """What is told of an array whose parts come one after the other.

    Attributes:
        dtype: of the array.
        shape: of the parts so far together.
        finite: how many values are.
        true: how many values are not zero.
        least: of the finite values.
        most: of the finite values.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    finite: int = 0
    true: int = 0
    least: float = math.inf
    most: float = -math.inf

    def add(self, part: Array) -> None:
        """Counts a part in."""
        before = self.shape[0] if self.shape else 0
        self.dtype = str(part.dtype)
        self.shape = (before + len(part), *part.shape[1:])
        known = part[np.isfinite(part)]
        self.finite += known.size
        self.true += int(np.count_nonzero(known))
        if known.size:
            self.least = min(self.least, known.min())
            self.most = max(self.most, known.max())

    def told(self) -> str:
        """Returns type, shape, range, and how many values are not finite."""
        shape = "x".join(map(str, self.shape))
        told = f"{self.dtype} {shape}"
        size = math.prod(self.shape)
        if not size:
            return told
        if self.dtype == "bool":
            return f"{told}, {self.true} true"
        if self.finite:
            told += f", {self.least:.6g} to {self.most:.6g}"
        if self.finite < size:
            told += f", {size - self.finite} not finite"
        return told
