"""Small data of every kind in ten classes, 300 training and 100 test rows, from the digits."""

from functools import cache

from experiments.check.planted import LENGTH as LENGTH
from experiments.check.planted import WORDS as WORDS
from experiments.check.planted import as_kind
from experiments.check.planted import sentences as sentences
from poisonbench.data import Dataset, load, subset


@cache
def small_data(kind: str) -> tuple[Dataset, Dataset]:
    """Training and test set of a kind."""
    train, test = load("digits")
    rows, points = subset(train, 300, 0), subset(test, 100, 0)
    return as_kind(rows, kind, "train"), as_kind(points, kind, "test")


def enlarged(parts: tuple[Dataset, Dataset]) -> tuple[Dataset, Dataset]:
    """The same pictures at four times the size, for attacks that need larger ones."""
    train, test = [
        part.rows(part.x.repeat_interleave(4, 2).repeat_interleave(4, 3), part.y)
        for part in parts
    ]
    return train, test
