"""A poisoning as the data sets of a log, and back into the clean data that it was made from."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from poisonbench.contracts.relations import redrawn
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import Record, names
from poisonbench.roles import CLEAN

# data sets of a group and their types; None: floating point, or int64 for token ids
Form = Mapping[str, torch.dtype | None]
POISON_FORM: Form = {
    "role": torch.uint8,
    "origin": torch.int64,
    "rows": torch.int64,
    "x": None,
    "y": torch.int64,
}
TARGETS_FORM: Form = {
    "x": None,
    "y": torch.int64,
    "wanted": torch.int64,
    "origin": torch.int64,
}


def pack_poison(poisoned: Poisoned, clean: Dataset) -> dict[str, Tensor]:
    """Returns the ground truth: roles, origins, and the content of rows that are not clean ones."""
    is_known = poisoned.origin >= 0
    is_clean = poisoned.role == CLEAN
    is_source = is_known & is_clean & ~redrawn(poisoned, clean)
    rows = (~is_source).cpu().nonzero().squeeze(1)
    changed = poisoned.train.take(rows)
    return {
        "role": poisoned.role,
        "origin": poisoned.origin,
        "rows": rows,
        "x": changed.x,
        "y": changed.y,
    }


def pack_kind(data: Dataset) -> dict[str, str]:
    """Returns what the instances are: their kind, and the words of ids or names of features."""
    packed = {names.KIND: str(data.kind)}
    if data.vocabulary:
        packed[names.VOCABULARY] = json.dumps(data.vocabulary)
    if data.columns:
        packed[names.COLUMNS] = json.dumps(data.columns)
    return packed


def unpack_group(record: Record, group: str, form: Form) -> dict[str, Tensor]:
    """Returns the data sets of a group by their names in `form`, on the CPU.

    Raises:
        LogError: one is not there, or of another type.
    """
    found: dict[str, Tensor] = {}
    for name, dtype in form.items():
        key = f"{group}/{name}"
        if key not in record.data:
            raise LogError(record.path, f"has no data set {key!r}")
        tensor = torch.as_tensor(record.data[key])
        if not _is_of_type(tensor, dtype):
            what = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise LogError(record.path, f"its {key!r} is {what}, which no poison has")
        found[name] = tensor
    return found


def _is_of_type(tensor: Tensor, dtype: torch.dtype | None) -> bool:
    """Whether it is a vector of that type, or, for None, of any shape: numbers or token ids."""
    if dtype is None:
        return tensor.is_floating_point() or tensor.dtype == torch.int64
    return tensor.dtype == dtype and tensor.dim() == 1


def unpack_train(
    record: Record, clean: Dataset, wanted: Tensor | None = None
) -> Dataset:
    """Returns the poisoned training set of a log, given the clean one that it was made from.

    Args:
        record: the log.
        clean: the clean training set.
        wanted: (k,) int64, the rows that are returned, in this order; None: all.

    Raises:
        LogError: what the log holds does not fit together, or not the clean set.
    """
    stored = unpack_group(record, "poison", POISON_FORM)
    origin = stored["origin"]
    fits = len(origin) > 0 and _all_within(origin, -1, len(clean))
    shape = tuple(stored["x"].shape[1:])
    if not fits or shape != clean.shape:
        what = f"({len(clean)} rows of shape {clean.shape})"
        raise LogError(record.path, f"its rows do not fit the data set {what}")
    if not _rows_are_named_once(stored):
        raise LogError(
            record.path, "its changed rows are not those that it names, each once"
        )
    rows = stored["rows"]
    if wanted is None:
        wanted = torch.arange(len(origin))
    elif not _all_within(wanted, 0, len(origin)):
        raise LogError(
            record.path, f"has {len(origin)} training rows, fewer than asked"
        )
    place = torch.full((len(origin),), -1)
    place[rows] = torch.arange(len(rows))
    place = place[wanted]
    changed = place >= 0
    train = clean.take(origin[wanted].clamp(min=0))  # a copy
    here = changed.to(train.x.device)
    train.x[here] = exact(record, stored["x"][place[changed]], train.x)
    train.y[here] = stored["y"][place[changed]].to(train.y.device)
    return train


def _rows_are_named_once(stored: Mapping[str, Tensor]) -> bool:
    """Whether `rows` names each stored row once, and all rows that are new among them."""
    rows = stored["rows"]
    n = len(stored["origin"])
    if len(stored["role"]) != n:
        return False
    if not len(rows) == len(stored["x"]) == len(stored["y"]):
        return False
    if not _all_within(rows, 0, n):
        return False
    named = torch.zeros(n, dtype=torch.bool)
    named[rows] = True
    is_new = stored["origin"] < 0
    each_once = int(named.sum()) == len(rows)
    return each_once and bool(named[is_new].all())


def _all_within(values: Tensor, low: int, high: int) -> bool:
    """Whether all values lie in [low, high)."""
    inside = (values >= low) & (values < high)
    return bool(inside.all())


def exact(record: Record, values: Tensor, like: Tensor) -> Tensor:
    """Returns the values where `like` lies and in its type, as long as that loses nothing.

    Raises:
        LogError: it would round them, or one holds token ids and the other does not.
    """
    if values.is_floating_point() != like.is_floating_point():
        what = f"its values are {values.dtype}, those of the data set {like.dtype}"
        raise LogError(record.path, what)
    moved = values.to(like)
    back = moved.cpu().to(values.dtype)
    if not torch.equal(back.nan_to_num(), values.nan_to_num()):
        what = f"its values are {values.dtype}"
        raise LogError(
            record.path, f"{what}, which {like.dtype} cannot hold without rounding"
        )
    return moved
