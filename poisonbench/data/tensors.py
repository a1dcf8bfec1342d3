"""Tensors, arrays and lists of numbers as instances and labels, where that needs no guess.

Exact conversions alone: float16 and bfloat16 become float32, whole-number labels int64; images of
bytes, 0 to 255, become float32 in [0, 1] by the convention of torchvision.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from poisonbench.data.form import FLOATS, NUMBER_WORDS, RENUMBER, agreeing, described
from poisonbench.errors import DataError

BYTE = 255.0  # white, in an image of bytes


def as_tensor(found: object, what: str) -> Tensor:
    """Returns a tensor or array, or a list of numbers, as a tensor of its own type."""
    if isinstance(found, Tensor):
        if found.layout != torch.strided:
            told = f"{agreeing(what, 'is')} of layout {found.layout}"
            raise DataError(told, "x.to_dense()")
        return found.detach()
    try:
        array = np.asarray(found)
    except ValueError as error:  # rows of different lengths
        raise DataError(
            f"{agreeing(what, 'is')} no array of one shape: {error}",
            "bring all rows to one shape",
        ) from error
    if array.dtype.kind in "US":
        way = NUMBER_WORDS if what.startswith("x ") else RENUMBER
        raise DataError(f"{what} holds texts, such as {str(array.flat[0])!r}", way)
    if array.dtype.kind not in "biuf":
        told = f"{agreeing(what, 'is')} {described(found)} of type {array.dtype}"
        raise DataError(told, "give numbers")
    # a copy: an array may be read-only
    native = array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(native)
    except TypeError as error:  # float128
        raise DataError(
            f"{agreeing(what, 'is')} of type {array.dtype}, which torch lacks",
            "x.astype('float32')",
        ) from error


def as_instances(x: Tensor, what: str, scaled: bool = True) -> Tensor:
    """Returns instances in float32 or float64, if that is exact or a convention.

    Args:
        x: (n, *shape) of any type.
        what: names them in the error.
        scaled: whether images of bytes become numbers in [0, 1]; else they are refused.
    """
    if x.dtype in FLOATS:
        return x
    if x.dtype in (torch.float16, torch.bfloat16):
        return x.float()
    if x.dtype == torch.uint8 and x.dim() == 4:
        if not scaled:
            raise DataError(
                f"{agreeing(what, 'is')} of bytes, which become numbers in [0, 1]; the training "
                "set lies elsewhere",
                "prepare them as the training set was: x.float(), and what else was done to it",
            )
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


def as_labels(y: Tensor, what: str) -> Tensor:
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


def of_picture(pixels: Any) -> Tensor:
    """A picture of PIL, (height, width) or (height, width, channels), with its channels first."""
    tensor = torch.from_numpy(pixels.copy())
    if tensor.dim() == 2:
        return tensor.unsqueeze(0)
    return tensor.permute(2, 0, 1)
