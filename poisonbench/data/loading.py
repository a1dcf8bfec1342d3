"""From the name of a data set to its training and test set, judged before anything uses them."""

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from poisonbench.data.built_in import DATASETS
from poisonbench.data.convert import as_pair
from poisonbench.data.dataset import Dataset
from poisonbench.data.judge import check_pair
from poisonbench.errors import DataError, PoisonbenchError
from poisonbench.registry import lookup

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def default_root() -> Path:
    """Returns the folder of downloaded data: $POISONBENCH_DATA, or ~/.cache/poisonbench."""
    named = os.environ.get("POISONBENCH_DATA")
    if named:
        return Path(named)
    return Path.home() / ".cache" / "poisonbench"


def load(
    name: str, root: Path | str | None = None, download: bool = False
) -> tuple[Dataset, Dataset]:
    """Loads the training and the test set of a data set, and judges them.

    Args:
        name: a key of `DATASETS`, or `package.module:callable` of a function without arguments, or
            with `root` and `download`. It returns (train, test), each a `Dataset`, a pair (x, y) of
            tensors or arrays, or a `torch.utils.data.Dataset` of such pairs, which is read once and
            may not change its rows at random.
            float16 becomes float32, whole-number labels int64, and images of bytes, (n, channels,
            height, width) uint8, are divided by 255; nothing else is converted.
        root: folder of the files; None means `default_root()`. `digits` needs none.
        download: fetch absent files from their public homes. Nothing is ever downloaded without it.

    Raises:
        DataError: the files are not there, or what the function returned cannot be worked with
            (see `check_pair`): names the data set, the fault and the way out.
        ConfigError: no such name.
    """
    read = lookup(DATASETS, name, "dataset")
    folder = Path(root) if root is not None else default_root()
    if name in DATASETS:
        return read(folder, download)
    try:
        train, test = as_pair(_called(read, folder, download))
        check_pair(train, test)
    except DataError as error:
        raise DataError(f"data set {name!r}: {error.message}", error.hint) from error
    return train, test


def _called(function: Any, root: Path, download: bool) -> object:
    """What the function returns.

    Raises:
        DataError: it cannot be called, or raised something of its own.
    """
    if not callable(function):
        raise DataError(
            f"it is a {type(function).__name__}, no function",
            "name a function that returns it",
        )
    arguments = _arguments(function, root, download)
    try:
        return function(*arguments.args, **arguments.kwargs)
    except PoisonbenchError:
        raise
    except Exception as error:  # a function outside the tree may raise anything
        raise DataError(
            f"it raised {type(error).__name__}: {' '.join(str(error).split())}",
            "mend the function; --debug shows where it happened",
        ) from error


def _is_required(parameter: inspect.Parameter) -> bool:
    """Whether a call must give it."""
    return parameter.default is parameter.empty and parameter.kind not in VARIADIC


def _arguments(
    function: Callable[..., object], root: Path, download: bool
) -> inspect.BoundArguments:
    """Those of `root` and `download` that the function takes.

    It takes them by name, or, whatever their names, as the only two arguments that it must have.

    Raises:
        DataError: it must have other arguments.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters.values()
    given = {"root": root, "download": download}
    named = {p.name: given[p.name] for p in parameters if p.name in given}
    required = [p.name for p in parameters if _is_required(p)]
    with suppress(TypeError):
        return signature.bind(**named)
    if len(required) == 2:
        with suppress(TypeError):
            return signature.bind(root, download)
    raise DataError(
        f"it must be called with {', '.join(required)}",
        "take no arguments, or root and download; give the others a default",
    )
