"""FSDD (Jackson et al. 2018): spoken digits of six speakers, as log-mel spectrograms of 40 x 64.

The clips are takes 0 to 49 of every digit by every speaker; takes 0 to 4 are the test split.
"""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poisonbench.data.dataset import Dataset
from poisonbench.errors import DataError

FILE = "fsdd/fsdd_logmel.npz"
HOME = "https://github.com/Jakobovski/free-spoken-digit-dataset"
SHAPE = (40, 64)  # mel bands from low to high, frames of time
FORM = (
    "a numpy archive with x (n, 40, 64) uint8, the log-mel spectrograms from 0 to 255; "
    "y (n,) uint8, the digits; test (n,) bool, true for takes 0 to 4"
)


def fsdd(root: Path, download: bool) -> tuple[Dataset, Dataset]:  # noqa: ARG001 - see _not_found
    """Spoken digits of six speakers, 2,700 and 300 log-mel spectrograms of 40 x 64, 10 classes."""
    place = root / FILE
    if not place.is_file():
        raise _not_found(root)
    x, y, is_test = _arrays(place)
    full = Dataset(x, y, 10, "spectrogram")
    return full.take(~is_test), full.take(is_test)


def _not_found(root: Path) -> DataError:
    """Says where the clips come from: their home has sound alone, which no download turns."""
    return DataError(
        f"{FILE} was not found in {root.resolve()}; the clips come from {HOME}, as sound",
        f"expected is {FORM}; point --data-root or POISONBENCH_DATA at it",
    )


def _arrays(place: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Returns spectrograms (n, 1, 40, 64) in [0, 1], digits (n,) and test rows (n,) bool.

    Raises:
        DataError: the archive is of another form.
    """
    try:
        with np.load(place, allow_pickle=False) as archive:
            x = archive["x"]
            y = archive["y"]
            is_test = archive["test"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{place} cannot be read: {error}", FORM) from error
    n = len(x)
    is_right = x.shape == (n, *SHAPE) and y.shape == is_test.shape == (n,)
    if not is_right or x.dtype != np.uint8 or is_test.dtype != np.bool_:
        raise DataError(f"{place} is of another form", f"expected is {FORM}")
    pixels = torch.from_numpy(x).unsqueeze(1).float()
    return pixels.div(255), torch.from_numpy(y).long(), torch.from_numpy(is_test)
