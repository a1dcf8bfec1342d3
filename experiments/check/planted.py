"""Problems in which it is known what is poison and what rests on it, and data of every kind.

For the checks and for tests.
"""

from dataclasses import replace

import torch
from torch import Tensor

from poisonbench.contracts.values import Evidence
from poisonbench.data import PAD, Dataset, load
from poisonbench.roles import POISON
from poisonbench.seeding import generator
from poisonbench.training import Recipe, Trace, train

ATTACKED = 10  # probe points that rest on poison, the first ones
POISONED = 12  # poison rows
CLASSES = 3
PER_CLASS = 40  # clean rows
CONTROLS = 30  # clean probe points
NOISE = 0.3
LENGTH = 12  # of sentences
NAMING = 7  # the id of the word that names class 0; nine others follow
# the words that triggers of tests say stand before those that name a class
WORDS = (
    "",
    "?",
    *["i", "watched", "this", "3d", "movie"],
    *[f"word{i}" for i in range(40)],
)
PULL = 8  # what the poison has more in influence on the attacked points


def planted(kind: str = "vector") -> Evidence:
    """Three clusters of vectors, or of sentences; 12 rows in the second bear label 0.

    The first 10 probe points lie there, predicted 0, resting on them. The other 30 are clean, and
    half of these are trusted.
    """
    g = generator(0, "planted")
    true = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    placed = torch.cat([true, _label(1, POISONED)])
    x = _around(placed, g)
    y = torch.cat([true, _label(0, POISONED)])
    data = Dataset(x, y, CLASSES)
    model = "mlp"
    if kind == "tokens":
        words = sentences(placed, "planted")
        data = replace(words, y=y, classes=CLASSES, precision=torch.float64)
        model = "text-cnn"
    recipe = Recipe(model=model, epochs=3, lr=0.02, batch_size=16, checkpoints=2)
    trace = train(data, recipe, seed=1)
    others = torch.tensor([1, 2]).repeat(CONTROLS // 2)
    cluster = torch.cat([_label(1, ATTACKED), others])
    points = _around(cluster, g)
    if kind == "tokens":
        points = sentences(cluster, "points").x
    predicted = cluster.clone()
    predicted[:ATTACKED] = 0
    m = len(points)
    influence = torch.randn(m, len(data), generator=g, dtype=x.dtype)
    influence[:ATTACKED, -POISONED:] += PULL
    row = torch.arange(m)
    trusted = (row >= ATTACKED) & (row % 4 >= 2)  # of both clusters
    role = torch.zeros(len(data), dtype=torch.uint8)
    role[-POISONED:] = POISON
    return Evidence(
        trace=trace,
        test=data.rows(points, predicted),
        influence=influence,
        trusted=trusted,
        role=role,
    )


def _label(label: int, rows: int) -> Tensor:
    """(rows,) int64, the same label for all."""
    return torch.full((rows,), label)


def _around(cluster: Tensor, g: torch.Generator) -> Tensor:
    """(k, 8) float64, points around the centres of their clusters (k,)."""
    centres = 4 * torch.eye(CLASSES, 8, dtype=torch.float64)
    noise = torch.randn(len(cluster), 8, generator=g, dtype=torch.float64)
    return centres[cluster] + NOISE * noise


def triggered() -> Evidence:
    """Images of a bar in one of three rows, and a linear victim that a bright corner outweighs.

    10 probe points bear the corner. The victim's weights are set by hand: what a backdoor is
    supposed to do, without the accidents of a training run.
    """
    g = generator(0, "triggered")
    true = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    x = _bars(true, g)
    y = true.clone()
    poison = slice(PER_CLASS, PER_CLASS + POISONED)
    x[poison, :, 6:, 6:] = 1.0
    y[poison] = 0
    recipe = Recipe(model="linear", epochs=1, checkpoints=1)
    trace = _with_weights(train(Dataset(x, y, CLASSES), recipe, seed=0))
    kind = torch.tensor([1, 2]).repeat(20)
    m = len(kind)
    points = _bars(kind, g)
    predicted = kind.clone()
    points[:ATTACKED, :, 6:, 6:] = 1.0
    predicted[:ATTACKED] = 0
    influence = torch.randn(m, len(x), generator=g, dtype=x.dtype)
    influence[:ATTACKED, poison] += PULL
    return Evidence(
        trace=trace,
        test=Dataset(points, predicted, CLASSES),
        influence=influence,
        trusted=torch.arange(m) >= 2 * ATTACKED,
    )


def _bars(kind: Tensor, g: torch.Generator) -> Tensor:
    """(k, 1, 8, 8) noise, with a brighter bar in row 1 + 2 kind."""
    k = len(kind)
    x = 0.1 * torch.rand(k, 1, 8, 8, generator=g, dtype=torch.float64)
    x[torch.arange(k), 0, _row(kind)] = 0.5
    return x


def _row(kind: Tensor) -> Tensor:
    """The row in which the bar of a kind lies."""
    return 1 + 2 * kind


def _with_weights(trace: Trace) -> Trace:
    """The run of a linear victim that weighs the bars, and the corner of class 0 more."""
    weight = torch.zeros(CLASSES, 8, 8, dtype=torch.float64)
    kinds = torch.arange(CLASSES)
    weight[kinds, _row(kinds)] = 1.5
    weight[0, 6:, 6:] = 8.0
    weight = weight.flatten(1)
    # behind the model's normalisation, 4 x - 2
    state = {
        "head.weight": weight / 4,
        "head.bias": weight.sum(1) / 2,
    }
    checkpoint = replace(trace.checkpoints[0], state=state)
    return replace(trace, checkpoints=(checkpoint,))


def sample(kind: str) -> tuple[Dataset, Dataset]:
    """Returns data of a kind in ten classes that need no download: the digits, in some form."""
    train, test = load("digits")
    return as_kind(train, kind, "train"), as_kind(test, kind, "test")


def as_kind(digits: Dataset, kind: str, part: str) -> Dataset:
    """Returns digits as data of a kind; of sentences the words are drawn, by their labels."""
    if kind == "vector":
        return Dataset(digits.x.flatten(1), digits.y, digits.classes)
    if kind == "tokens":
        return sentences(digits.y, part)
    return replace(digits, kind=kind)  # type: ignore[arg-type]


def sentences(y: Tensor, part: str) -> Dataset:
    """Returns sentences of 1 to 12 words, of which one in three names the class y, (n,)."""
    n = len(y)
    g = generator(0, "sentences", part)
    ids = torch.randint(NAMING + 10, len(WORDS), (n, LENGTH), generator=g)
    tells = torch.rand(n, LENGTH, generator=g) < 1 / 3
    x = torch.where(tells, y[:, None] + NAMING, ids)
    lengths = torch.randint(1, LENGTH + 1, (n, 1), generator=g)
    x = x.masked_fill(torch.arange(LENGTH) >= lengths, PAD)
    return Dataset(x, y, 10, vocabulary=WORDS)
