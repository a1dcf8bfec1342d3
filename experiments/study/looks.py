"""The look of what a study compares: an estimator has the colour that it has everywhere."""

from collections.abc import Iterable
from typing import Any

from experiments.report.pictures.estimator_look import numbers, point

# names in running text -> names in grids, where they differ by more than capitals and spaces
REGISTERED = {
    "knn-shapley": "shapley",
    "representer-points": "representer-point",
}


def estimator_of(label: str) -> str:
    """Returns a label with its estimator as grids call it: "HyDRA, fast" -> "hydra, fast"."""
    head, comma, settings = label.partition(",")
    name = head.casefold().replace(" ", "-")
    return REGISTERED.get(name, name) + comma + settings


def styles(labels: Iterable[str], size: float) -> dict[str, dict[str, Any]]:
    """Returns how the line of each label is drawn, its points of a size."""
    known = list(labels)
    looks = numbers(estimator_of(label) for label in known)
    found = {}
    for label in known:
        style = point(looks[estimator_of(label)], size)
        found[label] = {**style, "linestyle": "-"}
    return found
