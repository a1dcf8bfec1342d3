"""The rules of a poisoning by itself: shapes and types first, then values."""

from collections.abc import Iterator

import torch
from torch import Tensor

from poisonbench.contracts.rules import broken, broken_rows
from poisonbench.contracts.values import Poisoned
from poisonbench.data import KINDS, Dataset
from poisonbench.data.dataset import row_blocks
from poisonbench.data.tokens import ill_padded, strange
from poisonbench.errors import PoisonError
from poisonbench.roles import COVER


def form_faults(poisoned: Poisoned, clean: Dataset) -> Iterator[PoisonError]:
    """Yields what is wrong with shapes and types; `clean` is the training set that was given."""
    n = len(poisoned.train)
    m = len(poisoned.targets)
    yield from _vector(poisoned.role, "role", n, torch.uint8)
    yield from _vector(poisoned.origin, "origin", n, torch.int64)
    yield from _vector(poisoned.wanted, "wanted", m, torch.int64)
    yield from _vector(poisoned.target_origin, "target_origin", m, torch.int64)
    yield from _alike(poisoned.train, "train", clean)
    yield from _alike(poisoned.targets, "targets", clean)


def _vector(
    tensor: Tensor, name: str, rows: int, dtype: torch.dtype
) -> Iterator[PoisonError]:
    shape = tuple(tensor.shape)
    if shape != (rows,):
        yield broken("shape", f"{name} has shape {shape}, not ({rows},)")
    if tensor.dtype != dtype:
        wanted = str(dtype).removeprefix("torch.")
        yield broken("dtype", f"{name} is {tensor.dtype}, not {wanted}")


def _alike(part: Dataset, name: str, clean: Dataset) -> Iterator[PoisonError]:
    if part.shape != clean.shape:
        yield broken(
            "shape", f"instances of {name} have shape {part.shape}, not {clean.shape}"
        )
    if part.x.dtype != clean.x.dtype:
        yield broken("dtype", f"{name}.x is {part.x.dtype}, not {clean.x.dtype}")
    if part.kind != clean.kind:
        yield broken("kind", f"{name} is of kind {part.kind}, not {clean.kind}")
    if part.vocabulary != clean.vocabulary:
        yield broken("kind", f"{name} has another vocabulary than the clean data")


def value_faults(
    poisoned: Poisoned, clean: Dataset, test: Dataset
) -> Iterator[PoisonError]:
    """Yields what is wrong with the values of a poisoning whose form is right."""
    classes = clean.classes
    yield from _instances(poisoned.train, "train", classes)
    yield from _instances(poisoned.targets, "targets", classes)
    outside = _outside(poisoned.wanted, 0, classes)
    yield from broken_rows(
        "label", f"a wanted label is outside [0, {classes})", outside
    )
    yield from broken_rows("role", "role is above 2", poisoned.role > COVER)
    yield from _origins(poisoned, len(clean), len(test))


def _instances(part: Dataset, name: str, classes: int) -> Iterator[PoisonError]:
    if part.classes != classes:
        yield broken(
            "label", f"{name} has {part.classes} classes, the data set {classes}"
        )
    not_finite = torch.zeros_like(part.y, dtype=torch.bool)
    beyond = not_finite.clone()
    for rows in row_blocks(part):
        values = part.x[rows].flatten(1)
        not_finite[rows] = ~values.isfinite().all(1)
        beyond[rows] = _outside_unit(values).any(1)
    yield from broken_rows("finite", f"{name}.x is not finite", not_finite)
    if KINDS[str(part.kind)].unit:
        told = f"a pixel of {name} is outside [0, 1]"
        yield from broken_rows("range", told, beyond)
    if part.kind == "tokens":
        yield from _sentences(part, name)
    outside = _outside(part.y, 0, classes)
    yield from broken_rows(
        "label", f"a label of {name} is outside [0, {classes})", outside
    )


def _outside_unit(values: Tensor) -> Tensor:
    """Whether each value lies outside [0, 1]."""
    return (values < 0) | (values > 1)


def _sentences(part: Dataset, name: str) -> Iterator[PoisonError]:
    size = len(part.vocabulary)
    told = f"a token id of {name} is outside [0, {size})"
    yield from broken_rows("range", told, strange(part.x, size))
    told = f"padding of {name} stands before a word"
    yield from broken_rows("padding", told, ill_padded(part.x))


def _origins(poisoned: Poisoned, n: int, m: int) -> Iterator[PoisonError]:
    """Origins are rows of the n clean training rows, each once at most, or of the m test rows."""
    origin = poisoned.origin
    outside = _outside(origin, -1, n)
    yield from broken_rows("origin", f"origin is outside [-1, {n})", outside)
    outside_test = _outside(poisoned.target_origin, -1, m)
    yield from broken_rows(
        "origin", f"target_origin is outside [-1, {m})", outside_test
    )
    is_kept = ~outside & (origin >= 0)
    kept = origin[is_kept]
    twice = torch.bincount(kept, minlength=n) > 1
    told = "a clean training row is used twice; the first one is"
    yield from broken_rows("origin", told, twice)


def _outside(tensor: Tensor, low: int, high: int) -> Tensor:
    """Whether each value lies outside [low, high)."""
    return (tensor < low) | (tensor >= high)
