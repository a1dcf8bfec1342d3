"""What the instances of a log say, row by row: sentences in words, vectors by their features.

Needs no torch.
"""

from collections.abc import Iterator

import numpy as np

from experiments.report.explanation.instances import Instances
from poisonbench.log import Array, Record, names
from poisonbench.roles import (
    ATTACKED,
    CALIBRATION,
    COVER,
    JUDGED,
    MATCHED,
    POISON,
    RANDOM,
)

SHOWN = 5  # rows of each data set
GROUPS = {
    ATTACKED: "attacked",
    MATCHED: "matched control",
    RANDOM: "random control",
    CALIBRATION: "calibration",
    JUDGED: "judged",
}
ROLES = {POISON: "poison", COVER: "cover"}
# data sets of instances -> what is told of each row: word, data set of the numbers
TOLD = {
    names.POISON_X: (("label", names.POISON_Y),),
    names.TARGETS_X: (("true", names.TARGETS_Y), ("wanted", names.TARGETS_WANTED)),
    names.PROBE_X: (
        ("true", names.PROBE_Y),
        ("predicted", names.PROBE_PREDICTED),
        ("wanted", names.PROBE_WANTED),
    ),
}


def instances(record: Record) -> Iterator[str]:
    """Yields the first rows of each data set of a log whose instances have words or names."""
    for key in TOLD:
        rows = record.data.get(key)
        if rows is None or rows.ndim != 2:
            continue
        said = _said(record, rows[:SHOWN])
        if not said:
            continue
        yield f"{key}, {len(said)} of {len(rows)} rows:"
        for row, text in enumerate(said):
            yield f"  {_about(record, key, row)}: {text}"


def _said(record: Record, rows: Array) -> list[str]:
    """The rows in words; none where the log does not hold the words for them."""
    vocabulary = record.words(names.VOCABULARY)
    columns = record.words(names.COLUMNS)
    is_sentence = bool(vocabulary) and np.issubdtype(rows.dtype, np.integer)
    if not is_sentence and rows.shape[1] != len(columns):
        return []
    kind = "tokens" if is_sentence else "vector"
    labels = np.zeros(len(rows), dtype=np.int64)
    held = Instances(rows, labels, kind, vocabulary, columns)
    return [held.at(row) for row in rows]


def _about(record: Record, key: str, row: int) -> str:
    """What is known of a row: its role or group, and its labels."""
    told = [_word(record, key, row)]
    for word, of in TOLD[key]:
        value = _number(record, of, row)
        if value is not None and value >= 0:
            told.append(f"{word} {value}")
    return ", ".join(part for part in told if part)


def _word(record: Record, key: str, row: int) -> str:
    """The role of a training row, or the group of a probe point."""
    if key == names.PROBE_X:
        group = _number(record, names.PROBE_GROUP, row)
        return GROUPS.get(group, "") if group is not None else ""
    if key == names.POISON_X:
        place = _number(record, names.POISON_ROWS, row)
        role = None
        if place is not None:
            role = _number(record, names.POISON_ROLE, place)
        return ROLES.get(role, "") if role is not None else ""
    return "attacked"


def _number(record: Record, key: str, row: int) -> int | None:
    """The whole number in a row of a data set; None where there is none."""
    values = record.data.get(key)
    if values is None or values.ndim != 1 or not 0 <= row < len(values):
        return None
    return int(values[row])
