"""The form of a data set: types and shapes of its tensors, and what goes with its kind.

Values are judged elsewhere, once.
"""

from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor

from poisonbench.data.kind import KINDS
from poisonbench.errors import DataError

VOCABULARY_WAY = (
    "the word of every id, in the order of the ids: of a dict, sorted(ids, key=ids.get)"
)
COLUMNS_WAY = "one name for each feature: columns=list(names)"
RENUMBER = (
    "number the classes 0, 1, ...: names, y = numpy.unique(y, return_inverse=True)"
)
NUMBER_WORDS = (
    "number the words of the training set from 2, 0 pads and 1 is any other word: "
    "Dataset(ids, y, classes, vocabulary=words)"
)
FLOATS = (torch.float32, torch.float64)


def agreeing(what: str, verb: str) -> str:
    """Returns a name with "is" or "has" as it asks: "the points are", "the training set is"."""
    if what.startswith("the ") and what.endswith("points"):
        verb = {"is": "are", "has": "have"}[verb]
    return f"{what} {verb}"


def is_whole(value: object) -> bool:
    """Whether it is an int, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_names(given: object, what: str, way_out: str) -> tuple[str, ...]:
    """Returns words or names in their order as a tuple: of a list, an array, an index.

    Args:
        given: as the user gave it.
        what: names it in the error, e.g. "vocabulary".
        way_out: how it is given.

    Raises:
        DataError: it is a text, or has no order of its own.
    """
    if isinstance(given, tuple):
        return given
    if isinstance(given, str | Mapping | Set) or not isinstance(given, Iterable):
        raise DataError(
            f"{what} must be the words in order, got {type(given).__name__}", way_out
        )
    return tuple(map(str, given))


def check_instances(x: object) -> None:
    """Raises DataError unless x is a tensor of instances in float32, float64 or int64."""
    if not isinstance(x, Tensor):
        raise DataError(
            f"x must be a tensor, got {type(x).__name__}", "torch.as_tensor(x)"
        )
    if x.dtype not in (*FLOATS, torch.int64):
        raise DataError(
            f"x must be float32 or float64, or int64 token ids, got {x.dtype}",
            "x.float(); images: x.float() / 255; token ids: x.long()",
        )
    if x.dim() < 2:
        raise DataError(
            f"x must be (n, *shape), got shape {tuple(x.shape)}",
            "one row per instance: (n, features) or (n, channels, height, width)",
        )


def check_kind(x: Tensor, kind: object, vocabulary: tuple[str, ...]) -> None:
    """Raises DataError unless x is of a form that its kind allows."""
    if kind not in KINDS:
        allowed = ", ".join(KINDS)
        raise DataError(
            f"kind must be one of {allowed}, got {kind!r}", "or leave it out"
        )
    rule = KINDS[str(kind)]
    if x.is_floating_point() == rule.whole:
        held = "int64 token ids" if rule.whole else "floating point"
        raise DataError(
            f"x of kind {kind!r} must be {held}, got {x.dtype}",
            f"{rule.name}: {rule.about}",
        )
    if rule.axes is not None and x.dim() - 1 != rule.axes:
        raise DataError(
            f"x of kind {kind!r} must have {rule.axes} axes per instance, "
            f"got shape {tuple(x.shape[1:])}",
            f"{rule.name}: {rule.about}",
        )
    if rule.whole == (not vocabulary):
        needed = "needs a" if rule.whole else "takes no"
        raise DataError(
            f"kind {kind!r}, x of {x.dtype}, {needed} vocabulary",
            "tokens: Dataset(ids, y, classes, vocabulary=words), int64 ids (ids.long()) and the "
            "word of every id",
        )


def check_columns(x: Tensor, kind: object, columns: tuple[str, ...]) -> None:
    """Raises DataError unless the names of features are those of vectors, one for each."""
    if columns and (kind != "vector" or x.shape[1:] != (len(columns),)):
        raise DataError(
            f"{len(columns)} columns do not name {kind} instances of shape {tuple(x.shape[1:])}",
            "vectors: Dataset(x, y, classes, columns=names), one name for each feature",
        )


def check_labels(y: object) -> None:
    """Raises DataError unless y is a vector of int64."""
    if not isinstance(y, Tensor):
        raise DataError(
            f"y must be a tensor, got {type(y).__name__}", "torch.as_tensor(y)"
        )
    if y.dtype != torch.int64 or y.dim() != 1:
        raise DataError(
            f"y must be a vector of int64, got {y.dtype} of shape {tuple(y.shape)}",
            "one label per instance, 0, ..., C - 1: y.long()",
        )


def described(found: object) -> str:
    """Returns what a person needs to know of a value that is not as it should be."""
    if isinstance(found, tuple | list):
        kinds = ", ".join(type(entry).__name__ for entry in found[:6])
        return f"a {type(found).__name__} of {len(found)} ({kinds})"
    name = type(found).__name__
    shape = getattr(found, "shape", None)
    if shape is None:
        return name
    return f"{name} of shape {tuple(shape)}"
