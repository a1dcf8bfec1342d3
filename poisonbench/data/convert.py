"""What a user's function returned, made into data sets where that needs no guess.

A part is a `Dataset`; a pair (x, y) of tensors or arrays; or a `torch.utils.data.Dataset` of such
pairs, which is read once. Exact conversions alone: float16 and bfloat16 become float32,
whole-number labels int64; images of bytes, 0 to 255, become float32 in [0, 1] by the convention of
torchvision.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from poisonbench.data.dataset import Dataset
from poisonbench.data.form import RENUMBER, agreeing, described
from poisonbench.data.tensors import as_instances, as_labels, as_tensor, of_picture
from poisonbench.errors import DataError

AGAIN = 16  # rows asked for twice: an augmentation at even odds leaves none of them as it was
PART = (
    "a poisonbench.data.Dataset, a pair (x, y) of tensors or arrays, or a torch.utils.data.Dataset "
    "of pairs (instance, label)"
)
FORM = f"return (train, test), each {PART}"
GIVE = f"give {PART}"


def as_pair(found: object) -> tuple[Dataset, Dataset]:
    """Returns the training and the test set of what a function returned.

    The number of classes, where no part tells it, is one more than the largest label.

    Raises:
        DataError: it is none of the accepted forms; names the part, the fault and the way out.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise DataError(f"it gave {described(found)}, not a pair (train, test)", FORM)
    train = as_part(found[0], "the training set", way=FORM)
    test = as_part(found[1], "the test set", way=FORM)
    if isinstance(train, Dataset) and isinstance(test, Dataset):
        return train, test
    classes = _class_count(train, test)
    return _as_dataset(train, classes), _as_dataset(test, classes)


Rows = tuple[Tensor, Tensor]


def as_part(
    found: object,
    what: str,
    whole: bool = False,
    way: str = GIVE,
    scaled: bool = True,
) -> Dataset | Rows:
    """Returns a data set as it was given, or its tensors.

    Args:
        found: in any of the accepted forms.
        what: names it in the error.
        whole: take token ids as they are.
        way: tells the accepted forms.
        scaled: whether images of bytes become numbers in [0, 1]; else they are refused.

    Raises:
        DataError: it is in none of the accepted forms.
    """
    if isinstance(found, Dataset):
        return found
    if isinstance(found, TensorDataset):
        found = found.tensors
    elif isinstance(found, TorchDataset):
        found = _read_once(found, what, way)
    if isinstance(found, DataLoader):
        raise DataError(
            f"{agreeing(what, 'is')} a DataLoader", "give its data set: loader.dataset"
        )
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise DataError(f"{agreeing(what, 'is')} {described(found)}", way)
    x = as_tensor(found[0], f"x of {what}")
    if not whole:
        x = as_instances(x, what, scaled)
    y = as_labels(as_tensor(found[1], f"y of {what}"), what)
    return x, y


def _as_dataset(part: Dataset | Rows, classes: int) -> Dataset:
    if isinstance(part, Dataset):
        return part
    return Dataset(part[0], part[1], classes)


def _class_count(train: Dataset | Rows, test: Dataset | Rows) -> int:
    """The number of classes that a part tells, or that of the labels: 0, ..., C - 1, each there.

    Raises:
        DataError: the labels leave it open.
    """
    for part in (train, test):
        if isinstance(part, Dataset):
            return part.classes
    assert not isinstance(train, Dataset)
    assert not isinstance(test, Dataset)
    seen = torch.cat([train[1].cpu(), test[1].cpu()])
    if not len(seen):
        return 1  # no rows at all: the judge says so
    labels = seen.unique()
    first = int(labels[0])
    classes = int(labels[-1]) + 1
    if first == 0 and len(labels) == classes:
        return classes
    way = RENUMBER
    if first == 1 and len(labels) == classes - 1:
        way = "subtract 1: y - 1"
    raise DataError(
        f"labels are {_listed(labels)}, not 0, 1, ... without a gap",
        f"{way}; or give the number of classes: poisonbench.data.Dataset(x, y, classes)",
    )


def _listed(labels: Tensor) -> str:
    shown = ", ".join(map(str, labels[:6].tolist()))
    if len(labels) <= 6:
        return shown
    return f"{shown}, ..., {int(labels[-1])}"


def _read_once(data: "TorchDataset[Any]", what: str, way: str) -> Rows:
    """All rows of a data set of torch; the first few are asked for again, and must be the same."""
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise DataError(
            f"{agreeing(what, 'is')} a {type(data).__name__} without a length",
            "read it and return (x, y)",
        )
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    for row in range(len(data)):
        item = data[row]
        x, y = _row(item, f"row {row} of {what}", way)
        if xs and x.shape != xs[0].shape:
            raise DataError(
                f"row {row} of {what} has shape {tuple(x.shape)}, row 0 {tuple(xs[0].shape)}",
                "bring all rows to one shape",
            )
        xs.append(x)
        ys.append(y)
    if not xs:
        raise DataError(
            f"{agreeing(what, 'has')} no rows", "both sets need at least one"
        )
    for row in range(min(len(xs), AGAIN)):
        x, y = _row(data[row], f"row {row} of {what}", way)
        if not (_same(x, xs[row]) and _same(y, ys[row])):
            raise DataError(
                f"row {row} of {what} is another one when it is asked for again",
                "give the data set without random augmentation, with the transform of evaluation",
            )
    return torch.stack(xs), torch.stack(ys)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether all numbers are equal, those that are none (NaN) among them."""
    if one.shape != other.shape:
        return False
    unlike = (one != other) & ~(one.isnan() & other.isnan())
    return not bool(unlike.any())


def _row(found: object, what: str, way: str) -> Rows:
    if not isinstance(found, tuple | list) or len(found) != 2:
        told = (
            f"{agreeing(what, 'is')} {described(found)}, not a pair (instance, label)"
        )
        raise DataError(told, way)
    instance, label = found
    if type(instance).__module__.startswith("PIL."):
        return of_picture(np.asarray(instance)), as_tensor(
            label, f"the label of {what}"
        )
    return as_tensor(instance, what), as_tensor(label, f"the label of {what}")
