"""The table of what is done to instances, by kind."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from defenses.kit.transforms import images, sentences, spectrograms, vectors
from poisonbench.data import Dataset


@dataclass(frozen=True)
class Transforms:
    """What is done to the instances (m, *shape) of a kind; the shape stays.

    Attributes:
        perturbed: given the training instances (n, *shape), too: several versions of each
            instance. What they show stays, what is finer is lost.
        added: given another instance, (*shape): what shows both, in one way or in several.
        averaged: the same by the mean of both; None where it has no meaning.
        amplified: given a factor above 1: brighter or louder; None where it has no meaning.
    """

    perturbed: Callable[[Tensor, Tensor], list[Tensor]]
    added: Callable[[Tensor, Tensor], list[Tensor]]
    averaged: Callable[[Tensor, Tensor], list[Tensor]] | None = None
    amplified: Callable[[Tensor, float], Tensor] | None = None


TRANSFORMS: dict[str, Transforms] = {
    "image": Transforms(
        images.perturbed,
        images.added,
        images.averaged,
        images.amplified,
    ),
    "spectrogram": Transforms(
        spectrograms.perturbed,
        spectrograms.added,
        images.averaged,
        images.amplified,
    ),
    "vector": Transforms(
        vectors.perturbed,
        vectors.added,
        images.averaged,
    ),
    "tokens": Transforms(
        sentences.perturbed,
        sentences.added,
    ),
}


def transforms_of(data: Dataset) -> Transforms:
    """Returns what is done to the instances of a data set."""
    return TRANSFORMS[str(data.kind)]
