"""Instances to be judged by a finished run, whatever form a user has them in."""

from dataclasses import dataclass, replace

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from poisonbench.data.convert import as_part
from poisonbench.data.dataset import Dataset
from poisonbench.data.form import agreeing
from poisonbench.data.kind import KINDS
from poisonbench.data.rescale import check_scale, outside_unit
from poisonbench.data.tensors import as_instances, as_tensor
from poisonbench.errors import DataError


@dataclass(frozen=True, eq=False)
class Points:
    """The m instances to be judged.

    Attributes:
        data: of the kind of the training set; zeros for labels where none were given.
        labelled: whether labels were given.
        single: whether one instance was given without the axis of the rows.
    """

    data: Dataset
    labelled: bool
    single: bool = False


def as_points(found: object, train: Dataset, what: str = "the test points") -> Points:
    """Returns instances in the kind, the floating type and the classes of a training set.

    They are taken to its device.

    Args:
        found: a `Dataset`; a pair (x, y) of tensors or arrays; a `torch.utils.data.Dataset` of such
            pairs; or x alone, (m, *shape) or one instance (*shape), without labels.
        train: the training set.
        what: names the instances in the error.

    Raises:
        DataError: it is none of these, or pictures lie on another scale than the training set.
    """
    points = _read(found, train, what)
    check_scale(points.data, train, what)
    return replace(points, data=points.data.to(train.x.device, train.dtype))


def _read(found: object, train: Dataset, what: str) -> Points:
    if isinstance(found, DataLoader):
        raise DataError(
            f"{agreeing(what, 'is')} a DataLoader", "give its data set: loader.dataset"
        )
    scaled = not outside_unit(train, "")
    if isinstance(found, Dataset | TorchDataset | tuple | list):
        part = as_part(found, what, _whole(train), scaled=scaled)
        if isinstance(part, Dataset):
            return Points(part, labelled=True)
        return Points(train.rows(*part), labelled=True)
    x = as_tensor(found, what)
    if not _whole(train):
        x = as_instances(x, what, scaled)
    single = x.shape == train.x.shape[1:]
    if single:
        x = x[None]
    none = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    return Points(train.rows(x, none), labelled=False, single=single)


def _whole(train: Dataset) -> bool:
    """Whether instances are whole numbers."""
    return KINDS[str(train.kind)].whole
