"""Whether the parts of a cleaning are apart: what trains, what chooses, what reports."""

from hashlib import blake2b

import torch

from poisonbench.data import Dataset
from poisonbench.errors import DataError

DIGEST = 16  # bytes, in which no two instances of a data set meet by chance


def check_apart(train: Dataset, test: Dataset, held_out: Dataset | None) -> None:
    """Raises DataError where all points of one part are instances of another."""
    if all_among(test, train):
        told = "the points on which accuracy is reported are rows of the training set"
        raise DataError(told, "report on points that the model has not seen")
    if held_out is None:
        return
    if all_among(held_out, train):
        told = "the held-out points, by which rows are chosen, are rows of the training set"
        raise DataError(told, "or give a share, which is set apart: held_out = 0.2")
    if all_among(held_out, test):
        told = "the held-out points, by which rows are chosen, are the test points"
        raise DataError(told, "accuracy is reported on points that chose nothing")


def all_among(points: Dataset, rows: Dataset) -> bool:
    """Whether every point has the values of one of the rows, whatever their labels."""
    return instances(points) <= instances(rows)


def instances(data: Dataset) -> set[bytes]:
    """Returns a digest of the values of every instance; float32 and float64 agree."""
    flat = data.x.detach().flatten(1)
    wide = flat.to(device="cpu", dtype=torch.float64)
    rows = wide.contiguous().numpy()
    return {blake2b(row.tobytes(), digest_size=DIGEST).digest() for row in rows}
