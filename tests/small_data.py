"""Small data of every kind in ten classes, 300 training and 100 test rows, from the digits."""

from functools import cache

import torch

from poisonbench.data import PAD, Dataset, load, subset
from poisonbench.seeding import generator

LENGTH = 12
WORDS = (
    "",
    "?",
    *["i", "watched", "this", "3d", "movie"],
    *[f"word{i}" for i in range(40)],
)


@cache
def small_data(kind: str) -> tuple[Dataset, Dataset]:
    """Training and test set of a kind."""
    train, test = load("digits")
    rows, points = subset(train, 300, 0), subset(test, 100, 0)
    return _as(rows, kind, "train"), _as(points, kind, "test")


def enlarged(parts: tuple[Dataset, Dataset]) -> tuple[Dataset, Dataset]:
    """The same pictures at four times the size, for attacks that need larger ones."""
    train, test = [
        part.rows(part.x.repeat_interleave(4, 2).repeat_interleave(4, 3), part.y)
        for part in parts
    ]
    return train, test


def _as(data: Dataset, kind: str, part: str) -> Dataset:
    if kind == "vector":
        return Dataset(data.x.flatten(1), data.y, 10)
    if kind == "tokens":
        return sentences(data.y, part)
    return Dataset(data.x, data.y, 10, kind=kind)


def sentences(y: torch.Tensor, part: str) -> Dataset:
    """Sentences of 1 to 12 words, of which one in three names the class y, (n,)."""
    n, g = len(y), generator(0, "sentences", part)
    ids = torch.randint(17, len(WORDS), (n, LENGTH), generator=g)
    tells = torch.rand(n, LENGTH, generator=g) < 1 / 3
    x = torch.where(tells, y[:, None] + 7, ids)
    lengths = torch.randint(1, LENGTH + 1, (n, 1), generator=g)
    x = x.masked_fill(torch.arange(LENGTH) >= lengths, PAD)
    return Dataset(x, y, 10, vocabulary=WORDS)
