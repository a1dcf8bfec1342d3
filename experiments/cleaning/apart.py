"""Whether the parts of a cleaning are apart: what trains, what chooses, what reports."""

import warnings

import torch
from torch import Tensor

from poisonbench.data import Dataset
from poisonbench.data.dataset import among, digests
from poisonbench.errors import DataError, RunWarning

SHARED = 0.1  # share of the points that may be instances of another part by chance


def check_apart(train: Dataset, test: Dataset, held_out: Dataset | None) -> None:
    """Refuses parts that share more than a tenth of their instances, and warns of fewer.

    Tables and short sentences repeat themselves by chance; a file that was cut wrongly shares more.

    Raises:
        DataError: names the parts, and how many instances they share.
    """
    reported = "points on which accuracy is reported"
    rows = "rows of the training set"
    way = "report on points that the model has not seen"
    _check_shared(among(test, train), reported, rows, way)
    if held_out is None:
        return
    choosing = "held-out points, by which rows are chosen,"
    way = "leave those out; or give a share, which is set apart: held_out = 0.2"
    _check_shared(among(held_out, train), choosing, rows, way)
    way = "accuracy is reported on points that chose nothing"
    _check_shared(among(held_out, test), choosing, "test points", way)


def _check_shared(shared: Tensor, points: str, rows: str, way: str) -> None:
    count = int(shared.sum())
    told = f"{count} of {len(shared)} {points} are {rows}"
    if count > SHARED * len(shared):
        raise DataError(told, way)
    if count:
        warnings.warn(f"{told}: {way}", RunWarning, stacklevel=4)


def copies_together(data: Dataset, apart: Tensor) -> Tensor:
    """Returns a split in which copies of an instance lie on one side, that of the first: (n,) bool.

    Args:
        data: n rows, some of which may be copies of others, whatever their labels.
        apart: (n,) bool, the rows of one side.
    """
    side: dict[bytes, bool] = {}
    chosen = apart.tolist()
    together = [
        side.setdefault(digest, own)
        for digest, own in zip(digests(data), chosen, strict=True)
    ]
    return torch.tensor(together, dtype=torch.bool)
