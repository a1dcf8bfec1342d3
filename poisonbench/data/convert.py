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
from poisonbench.data.form import FLOATS, NUMBER_WORDS, RENUMBER, described
from poisonbench.errors import DataError

PART = (
    "a poisonbench.data.Dataset, a pair (x, y) of tensors or arrays, or a torch.utils.data.Dataset "
    "of pairs (instance, label)"
)
FORM = f"return (train, test), each {PART}"
GIVE = f"give {PART}"
BYTE = 255.0  # white, in an image of bytes


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
    found: object, what: str, whole: bool = False, way: str = GIVE
) -> Dataset | Rows:
    """Returns a data set as it was given, or its tensors; `whole`: of token ids as they are.

    Raises:
        DataError: it is in none of the accepted forms, which `way` tells.
    """
    if isinstance(found, Dataset):
        return found
    if isinstance(found, TensorDataset):
        found = found.tensors
    elif isinstance(found, TorchDataset):
        found = _read_once(found, what, way)
    if isinstance(found, DataLoader):
        raise DataError(f"{what} is a DataLoader", "give its data set: loader.dataset")
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise DataError(f"{what} is {described(found)}", way)
    x = as_tensor(found[0], f"x of {what}")
    if not whole:
        x = as_instances(x, what)
    y = _labels(as_tensor(found[1], f"y of {what}"), what)
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


def as_tensor(found: object, what: str) -> Tensor:
    """Returns a tensor or array, or a list of numbers, as a tensor of its own type."""
    if isinstance(found, Tensor):
        return found.detach()
    try:
        array = np.asarray(found)
    except ValueError as error:  # rows of different lengths
        raise DataError(
            f"{what} is no array of one shape: {error}", "bring all rows to one shape"
        ) from error
    if array.dtype.kind in "US":
        way = NUMBER_WORDS if what.startswith("x ") else RENUMBER
        raise DataError(f"{what} holds texts, such as {str(array.flat[0])!r}", way)
    if array.dtype.kind not in "biuf":
        told = f"{what} is {described(found)} of type {array.dtype}"
        raise DataError(told, "give numbers")
    # a copy: an array may be read-only
    native = array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native)
    except TypeError as error:  # float128
        raise DataError(
            f"{what} is of type {array.dtype}, which torch lacks", "x.astype('float32')"
        ) from error


def as_instances(x: Tensor, what: str) -> Tensor:
    """Returns instances in float32 or float64, if that is exact or a convention."""
    if x.dtype in FLOATS:
        return x
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.float()
    if x.dtype == torch.uint8 and x.dim() == 4:
        return x.float().div_(BYTE)
    hint = "features: x.float(); images: x.float() divided by the value of white"
    if x.dim() == 2:
        hint = (
            "features: x.float(); token ids: Dataset(x, y, classes, vocabulary=words)"
        )
    if x.dtype == torch.uint8 and x.dim() == 3:
        hint = "images of one channel: x[:, None]; bytes are then divided by 255"
    shape = tuple(x.shape)
    raise DataError(f"x of {what} is {x.dtype} of shape {shape}", hint)


def _labels(y: Tensor, what: str) -> Tensor:
    """Labels as a vector of int64."""
    if y.dim() != 1:
        way = "y.reshape(-1)"
        if y.dim() == 2 and y.shape[1] > 1:
            way = "one-hot labels: y.argmax(1)"
        raise DataError(f"y of {what} has shape {tuple(y.shape)}, not (n,)", way)
    if y.is_floating_point() or y.is_complex():
        raise DataError(
            f"y of {what} is {y.dtype}; labels are whole numbers 0, ..., C - 1",
            "if they are, y.astype('int64') of an array, y.long() of a tensor",
        )
    return y.to(torch.int64)


def _read_once(data: "TorchDataset[Any]", what: str, way: str) -> Rows:
    """All rows of a data set of torch, each asked for once; random transforms are drawn once."""
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise DataError(
            f"{what} is a {type(data).__name__} without a length",
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
        raise DataError(f"{what} has no rows", "both sets need at least one")
    return torch.stack(xs), torch.stack(ys)


def _row(found: object, what: str, way: str) -> Rows:
    if not isinstance(found, tuple | list) or len(found) != 2:
        told = f"{what} is {described(found)}, not a pair (instance, label)"
        raise DataError(told, way)
    instance, label = found
    if type(instance).__module__.startswith("PIL."):
        return _of_picture(np.asarray(instance)), as_tensor(
            label, f"the label of {what}"
        )
    return as_tensor(instance, what), as_tensor(label, f"the label of {what}")


def _of_picture(pixels: Any) -> Tensor:
    """A picture of PIL, (height, width) or (height, width, channels), with its channels first."""
    tensor = torch.from_numpy(pixels.copy())
    if tensor.dim() == 2:
        return tensor.unsqueeze(0)
    return tensor.permute(2, 0, 1)
