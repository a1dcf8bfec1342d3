"""The data sets on which the weights of questions are learned, with the victims trained there."""

from dataclasses import dataclass, replace

from poisonbench.training import Recipe


@dataclass(frozen=True)
class Source:
    """A data set on which is rehearsed.

    Attributes:
        name: of the data set.
        rows: training rows, drawn by the seed; None for all.
        recipe: of the victims.
        flat: whether pictures are laid out as vectors.
    """

    name: str
    rows: int | None
    recipe: Recipe
    flat: bool = False


PICTURES = Recipe("cnn", epochs=8, batch_size=32, lr=0.05, checkpoints=3)
LAID_OUT = replace(PICTURES, model="mlp")
SOURCES = (
    Source(
        name="digits",
        rows=None,
        recipe=replace(PICTURES, epochs=20, batch_size=64),
    ),
    Source(
        name="mnist",
        rows=2000,
        recipe=PICTURES,
    ),
    Source(
        name="fashion-mnist",
        rows=2000,
        recipe=PICTURES,
    ),
    Source(
        name="cifar10",
        rows=3000,
        recipe=PICTURES,
    ),
    Source(
        name="digits",
        rows=None,
        recipe=replace(LAID_OUT, epochs=20),
        flat=True,
    ),
    Source(
        name="mnist",
        rows=2000,
        recipe=LAID_OUT,
        flat=True,
    ),
)
