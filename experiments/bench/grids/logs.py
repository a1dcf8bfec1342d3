"""The logs of a run: how many are done or damaged, and whether two runs agree bit for bit."""

from collections import Counter
from pathlib import Path

from poisonbench import log
from poisonbench.errors import LogError


def done(folder: Path) -> int:
    """How many cells of a folder are done."""
    names = [path.name for path in folder.glob("scenes/*/*.h5")]
    return sum(name != "trace.h5" and not name.startswith("failed-") for name in names)


def failed(folder: Path) -> int:
    """How many cells of a folder have failed."""
    return len(list(folder.glob("scenes/*/failed-*.h5")))


def damaged(folder: Path) -> int:
    """How many logs of a folder cannot be read."""
    count = 0
    for path in folder.glob("scenes/*/*.h5"):
        try:
            log.read(path)
        except LogError:
            count += 1
    return count


def compared(calm: Path, other: Path) -> tuple[int, int]:
    """How many logs of two runs differ or are in one alone, and how many are equal."""
    counts: Counter[bool] = Counter()
    names = {path.relative_to(calm) for path in calm.glob("scenes/*/*.h5")}
    names |= {path.relative_to(other) for path in other.glob("scenes/*/*.h5")}
    for name in names:
        try:
            same = log.same_results(log.read(calm / name), log.read(other / name))
        except LogError:
            same = False
        counts[same] += 1
    return counts[False], counts[True]
