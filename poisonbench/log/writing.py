"""Writing: what a log can hold."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poisonbench.errors import LogWriteError
from poisonbench.log.image import file_image
from poisonbench.log.placing import place, temporary_beside
from poisonbench.log.provenance import provenance
from poisonbench.log.record import (
    MAX_ATTRIBUTE,
    MAX_BYTES,
    MAX_CONFIG,
    Array,
    Attribute,
    canonical,
    checked_key,
    encode,
    is_storable,
)

if TYPE_CHECKING:
    import torch

OWN = ("attributes", "config")  # names in a file that are the log's own


def write(
    path: Path,
    kind: str,
    *,
    config: Mapping[str, Any],
    data: Mapping[str, torch.Tensor | Array | str],
    attributes: Mapping[str, Attribute] = {},
) -> None:
    """Write a log, whole or not at all; a log that was there before is replaced in one step.

    Memory beside the data: what they take when packed, and a fifth of that.

    Args:
        path: its place; missing folders are made.
        kind: what it holds.
        config: the resolved configuration; anything that JSON can hold (as in Python's `json`, inf
            and nan too).
        data: tensors and arrays of bool, int, uint or float up to 64 bits, of any shape, and texts
            (or what `Record.data` holds of them). bfloat16, which numpy lacks, is stored as
            float32, which holds it exactly.
        attributes: seconds, devices and such, no part of the result; `provenance` is added.

    Raises:
        TypeError: a value that a log cannot hold, named by its key; nothing is written.
        ValueError: a key or value out of bounds; nothing is written.
        LogWriteError: the disk is full, or the system refuses; what was there before stays whole.
            `__cause__` is the OSError.
    """
    arrays = {checked_key(key): _array(key, value) for key, value in data.items()}
    _check_names(arrays)
    arrays["config"] = _array("config", canonical(config))
    size = _checked_size(arrays)
    header = _checked_attributes({"kind": kind, **provenance()})
    own = _checked_attributes(attributes)
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        image = file_image(arrays, header, own)
    except (OSError, MemoryError) as error:
        reason = f"no memory to build the image of {size} bytes of data: {error}"
        raise LogWriteError(path, reason) from error
    place(path, temporary, image)


def _check_names(arrays: Mapping[str, Array]) -> None:
    """Refuses the names of the log's own things, and a data set inside another."""
    for key in sorted(arrays):
        if key.split("/")[0] in OWN:
            raise ValueError(
                f"data {key!r}: the names attributes and config are the log's own"
            )
        if any(str(parent) in arrays for parent in Path(key).parents):
            raise ValueError(f"data {key!r}: a data set cannot lie inside another")


def _checked_size(arrays: Mapping[str, Array]) -> int:
    """The bytes of all data sets together, `config` among them, where a log can hold them."""
    size = sum(array.nbytes for array in arrays.values())
    if size > MAX_BYTES:
        raise ValueError(
            f"a log holds at most {MAX_BYTES} bytes, got {size}; split it or store less"
        )
    config = arrays["config"].nbytes
    if config > MAX_CONFIG:
        raise ValueError(
            f"config holds at most {MAX_CONFIG} bytes of JSON, got {config}"
        )
    return size


def _checked_attributes(attributes: Mapping[str, Any]) -> dict[str, Attribute]:
    return {
        checked_key(name): _checked_attribute(name, value)
        for name, value in attributes.items()
    }


def _checked_attribute(name: str, value: Any) -> Attribute:
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, int | float | str):
        raise TypeError(
            f"attribute {name!r} must be int, float, str or bool, got {type(value).__name__}"
        )
    if isinstance(value, str):
        _check_short(name, value)
    fits = not isinstance(value, int) or -(2**63) <= value < 2**63
    if not fits:
        raise ValueError(f"attribute {name!r} must fit in 64 bits, got {value}")
    return value


def _check_short(name: str, text: str) -> None:
    """Refuses a text that no attribute can hold."""
    too_long = len(encode(text)) > MAX_ATTRIBUTE
    if too_long or "\0" in text:
        raise ValueError(
            f"attribute {name!r} must be at most {MAX_ATTRIBUTE} bytes without NUL; "
            "store a longer text as data"
        )


def _array(key: str, value: Any) -> Array:
    """The array under which a tensor, an array or a text is stored."""
    if isinstance(value, str):
        return np.frombuffer(encode(value), dtype="S1")
    # who holds a tensor has imported torch; who only reads logs is spared the seconds that takes
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = _array_of_tensor(key, value)
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"data {key!r} must be a tensor, an array or a str, got {type(value).__name__}"
        )
    if not is_storable(value.dtype, value.shape):
        raise TypeError(
            f"data {key!r} must be of bool, int, uint or float up to 64 bits, got {value.dtype}"
        )
    little = value.dtype.newbyteorder("<")
    return value.astype(little, copy=False)


def _array_of_tensor(key: str, tensor: torch.Tensor) -> Array:
    try:
        plain = tensor.detach().cpu().resolve_neg()
        if str(plain.dtype) == "torch.bfloat16":
            plain = plain.float()
        return plain.numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"data {key!r}: a log cannot hold this tensor: {error}"
        ) from error
