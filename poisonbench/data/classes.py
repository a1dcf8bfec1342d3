"""A data set cut down to some of its classes, and the names by which classes can be chosen."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from poisonbench.data.dataset import Dataset
from poisonbench.errors import DataError
from poisonbench.registry import nearest

# in the order of their labels; classes of other data sets are chosen by number
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}
FEWEST = 2  # classes among which there is something to predict


def named_classes(dataset: str, classes: Sequence[int | str]) -> tuple[int | str, ...]:
    """Returns chosen classes in one form: by name where the data set has names, else by number.

    Args:
        dataset: name of the data set.
        classes: names or numbers; empty for all classes.

    Raises:
        ValueError: fewer than two, one of them twice, a name that the data set does not have, or a
            number that is none of its classes.
    """
    if not classes:
        return ()
    found = tuple(_named(dataset, chosen) for chosen in classes)
    if len(found) < FEWEST:
        raise ValueError(
            f"classes must be at least {FEWEST}, or left out for all, got {list(classes)}"
        )
    if len(set(found)) < len(found):
        raise ValueError(f"classes must differ from each other, got {list(classes)}")
    return found


def _named(dataset: str, chosen: int | str) -> int | str:
    names = CLASS_NAMES.get(dataset, ())
    if isinstance(chosen, str):
        if chosen in names:
            return chosen
        if not names:
            raise ValueError(
                f"classes of {dataset!r} have no names: give numbers, got {chosen!r}"
            )
        near = nearest(chosen, names)
        raise ValueError(
            f"classes: {dataset!r} has no class {chosen!r}{near} (there are: {', '.join(names)})"
        )
    if chosen < 0:
        raise ValueError(f"classes must be at least 0, got {chosen}")
    if not names:
        return chosen
    if chosen >= len(names):
        raise ValueError(f"classes of {dataset!r} are below {len(names)}, got {chosen}")
    return names[chosen]


def of_classes(data: Dataset, dataset: str, classes: Sequence[int | str]) -> Dataset:
    """Returns the rows of the chosen classes, in their order.

    The labels become 0, 1, ... in the order in which the classes are given.

    Args:
        data: n rows of C classes.
        dataset: its name, whose class names count.
        classes: at least two, by name or number, see `named_classes`.

    Raises:
        DataError: one of them is no class of the data.
    """
    names = CLASS_NAMES.get(dataset, ())
    new = torch.full((data.classes,), -1, device=data.y.device)
    for label, chosen in enumerate(classes):
        number = names.index(chosen) if isinstance(chosen, str) else chosen
        if number >= data.classes:
            raise DataError(
                f"data set {dataset!r} has no class {number}",
                f"choose among 0, ..., {data.classes - 1}",
            )
        new[number] = label
    labels = new[data.y]
    rows = (labels >= 0).nonzero().squeeze(1)
    kept = data.take(rows)
    return replace(kept, y=labels[rows], classes=len(classes))
