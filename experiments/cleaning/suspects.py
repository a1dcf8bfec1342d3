"""The rows that criteria remove, with the reason for each: a table for a person or a program."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiments.cleaning.found import planted_rows
from experiments.cleaning.outcome import FLOOR, labels_of
from poisonbench import log
from poisonbench.log import Array, Record, names

HEAD = (
    "noise",
    "seed",
    "criterion",
    "rank",
    "row",
    "label",
    "removed_at",
    "score",
    "suspect",
    "other_label",
    "planted",
    "reason",
)


def write_suspects(paths: Sequence[Path], path: Path) -> int:
    """Writes a line for each row of each criterion that the largest share removes.

    The rows of random removal are left out.

    Args:
        paths: logs of a cleaning.
        path: of the table, CSV.

    Returns:
        The number of lines.

    Raises:
        LogError: a log cannot be read.
        LogWriteError: the table cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    count = 0
    for source in paths:
        record = log.read(source, "clean")
        for number, label in enumerate(labels_of(record)):
            if label == FLOOR:
                continue
            for line in _lines(record, number, label):
                writer.writerow(line)
                count += 1
    log.write_text(path, text.getvalue())
    return count


def _lines(record: Record, number: int, label: str) -> Iterator[tuple[object, ...]]:
    """The rows of a criterion, the most suspicious first."""
    config = record.config
    numbers = record.data[names.ROW]
    labels = record.data[names.ROW_LABEL]
    scores = record.data[names.CRITERIA_SCORE][number]
    told = told_of(record, number)
    planted = planted_rows(record)
    shares = config["remove"][1:]
    removed_at = first_shares(scores, shares)
    sound = np.nan_to_num(scores, nan=-np.inf)
    order = np.argsort(-sound, kind="stable")
    for rank, at in enumerate(removed_at):
        row = int(order[rank])
        yield (
            config["noise"]["label"],
            config["seed"],
            label,
            rank + 1,
            int(numbers[row]),
            int(labels[row]),
            at,
            f"{scores[row]:.6g}",
            _cell(told, names.SUSPECT, row),
            _cell(told, names.OTHER_LABEL, row),
            int(planted[row]),
            reason(label, scores, told, row),
        )


def first_shares(scores: Array, shares: Sequence[float]) -> list[float]:
    """Returns at which share a row is removed first, for the rows in the order of their removal.

    Args:
        scores: (n,); rows whose score is not finite are never removed.
        shares: ascending.
    """
    n = len(scores)
    sound = int(np.isfinite(scores).sum())
    found: list[float] = []
    for share in shares:
        end = min(round(share * n), sound, n - 1)
        more = end - len(found)
        found += [share] * more
    return found


def _cell(told: dict[str, Array], name: str, row: int) -> str:
    return str(int(told[name][row])) if name in told else ""


def told_of(record: Record, number: int) -> dict[str, Array]:
    """Returns what a criterion told of the rows beside its score, by name."""
    prefix = f"{names.CRITERIA_TOLD}{number}/"
    found = {}
    for key, value in record.data.items():
        if key.startswith(prefix):
            found[key.removeprefix(prefix)] = value
    return found


def reason(label: str, scores: Array, told: dict[str, Array], row: int) -> str:
    """Returns in words why a criterion holds a row for suspicious.

    Args:
        label: the name of the criterion.
        scores: (n,) of all rows.
        told: what it knows beside; (n,) each.
        row: in [0, n).
    """
    if names.MEAN_INFLUENCE in told:
        mean = told[names.MEAN_INFLUENCE][row]
        agreement = told[names.AGREEMENT][row]
        verb = "hurts" if mean < 0 else "helps"
        return (
            f"{verb} the held-out points: mean influence {mean:.3g}, "
            f"of that sign in {agreement:.0%} of their parts"
        )
    if names.OWN_PROBABILITY in told:
        own = told[names.OWN_PROBABILITY][row]
        other = int(told[names.OTHER_LABEL][row])
        return (
            f"models that did not see it give its label {own:.3f}, "
            f"and most to label {other} of the others"
        )
    below = float((scores < scores[row]).mean())
    word = label
    if label.startswith("self-influence"):
        word = "memorised: its influence on itself"
    return f"{word} {scores[row]:.3g}, above that of {below:.1%} of the rows"
