"""What a log holds, as text for people."""

import json

import numpy as np

from experiments.report.instances import instances
from poisonbench.log import Array, Record

MOST_LETTERS = 200  # of a text


def describe(record: Record) -> str:
    """Returns kind, configuration, data sets (type, shape, range) and attributes of a log.

    Of instances that have words or names of features, the first rows are told in them.
    """
    config = json.dumps(record.config, indent=2).splitlines()[1:-1]
    width = max((len(key) for key in record.data), default=0)
    lines = [str(record.path), f"kind: {record.kind}", "", "configuration:"]
    lines += [f"  {line}" for line in config]
    lines += ["", "data:"]
    for key, value in sorted(record.data.items()):
        name = _printable(key)
        lines.append(f"  {name:{width}}  {_summary(value)}")
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


def _summary(value: Array) -> str:
    """Type, shape and range of an array, or the text that it holds."""
    if value.dtype.kind == "S":
        text = value.tobytes().decode("utf-8", "replace")
        return _printable(text[:MOST_LETTERS].replace("\0", ""))
    if value.ndim == 0:
        return f"{value.dtype} {value}"
    shape = "x".join(map(str, value.shape))
    told = f"{value.dtype} {shape}"
    if not value.size:
        return told
    if value.dtype == bool:
        return f"{told}, {int(value.sum())} true"
    finite = value[np.isfinite(value)]
    bad = value.size - finite.size
    if finite.size:
        told += f", {finite.min():.6g} to {finite.max():.6g}"
    if bad:
        told += f", {bad} not finite"
    return told
