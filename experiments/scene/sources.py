"""What an audit reads: data and models that are named, not given."""

from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from experiments.plan.audit.spec import AuditSpec
from poisonbench.data import Dataset, Layout
from poisonbench.data.convert import as_part
from poisonbench.errors import ConfigError, DataError
from poisonbench.models import MODELS, build
from poisonbench.registry import lookup

ARRAYS = ("x", "y", "vocabulary")
WAY = "name package.module:callable, or FILE.npz with x and y, and of token ids their vocabulary"
WRITE = "write it by numpy.savez(FILE, x=x, y=y)"


def read_data(name: str, what: str, labelled: bool = False) -> Any:
    """Returns data as a function or a file gives them: x, or a pair (x, y), or a data set.

    Args:
        name: `package.module:callable` without arguments, or a file .npz with x and perhaps y; of
            token ids also `vocabulary`, the word of every id.
        what: names them in the error.
        labelled: whether a file must hold y.

    Raises:
        DataError: they cannot be read, or a file lacks an array.
        ConfigError: no such function.
    """
    if not name.endswith(".npz"):
        if ":" not in name:
            raise DataError(f"{what}: {name!r} is no function and no file .npz", WAY)
        functions: dict[str, Any] = {}
        return lookup(functions, name, "data")()
    arrays = _arrays(Path(name), what)
    wanted = ("x", "y") if labelled else ("x",)
    for key in wanted:
        if key not in arrays:
            raise DataError(f"{what}: {name} holds no array {key}", WRITE)
    if "y" not in arrays:
        return arrays["x"]
    if "vocabulary" in arrays:
        return _sentences(arrays, what)
    return arrays["x"], arrays["y"]


def _arrays(path: Path, what: str) -> dict[str, Any]:
    """Returns the arrays of a file that have a meaning here, by name."""
    if path.is_file() and not is_zipfile(path):
        raise DataError(f"{what}: {path} is no archive of arrays", WRITE)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: _shared(file[key]) for key in ARRAYS if key in file}
    except Exception as error:  # damaged bytes may raise anything
        raise DataError(f"{what}: {path}: {error}", WAY) from error


def _shared(array: NDArray[Any]) -> Any:
    """Returns an array that was just read as a tensor in its memory, or itself if torch cannot."""
    try:
        return torch.from_numpy(array)
    except (TypeError, ValueError):  # words, or another byte order
        return array


def _sentences(arrays: dict[str, Any], what: str) -> Dataset:
    """Sentences with their labels and the words of their ids."""
    part = as_part((arrays["x"], arrays["y"]), what, whole=True)
    assert not isinstance(part, Dataset)
    x, y = part
    classes = int(y.max()) + 1 if len(y) else 1
    return Dataset(x, y, classes, vocabulary=arrays["vocabulary"].tolist())


def read_model(spec: AuditSpec, layout: Layout) -> nn.Module:
    """Returns the model, untrained.

    Args:
        spec: names it, with its arguments where it takes others than a shape and a number of
            classes.
        layout: of the training set.

    Raises:
        ConfigError: there is no such model, or it cannot be made.
    """
    if spec.model in MODELS or spec.model_args is None:
        return build(spec.model, layout, spec.seed)
    make: Any = lookup(MODELS, spec.model, "model")
    arguments = dict(spec.model_args)
    try:
        made: nn.Module = make(**arguments)
    except Exception as error:  # a function of others may raise anything
        told = f"model {spec.model!r} with {arguments}: {type(error).__name__}: {error}"
        raise ConfigError([told], "model_args = {num_classes = 10}, say") from error
    return made
