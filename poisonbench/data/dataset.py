"""A data set as two tensors, resident where they are used.

There are no loader processes, and no transforms between model and pixel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonbench.errors import DataError
from poisonbench.seeding import generator

FLOATS = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Instances and their labels.

    Attributes:
        x: (n, *shape) float32 or float64; images (channels, height, width) in [0, 1], other data
            as it is.
        y: (n,) int64 labels in [0, classes).
        classes: number of classes C.

    Raises:
        DataError: the tensors are of another type or do not fit together. Values are judged by
            `poisonbench.data.load`, once.
    """

    x: Tensor
    y: Tensor
    classes: int

    def __post_init__(self) -> None:
        _check_instances(self.x)
        _check_labels(self.y)
        if len(self.x) != len(self.y):
            raise DataError(
                f"x has {len(self.x)} rows, y has {len(self.y)}",
                "one label per instance",
            )
        if not _is_whole(self.classes) or self.classes < 1:
            raise DataError(
                f"classes must be a whole number of at least 1, got {self.classes!r}",
                "an int: labels are 0, ..., classes - 1",
            )

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one instance."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor) -> "Dataset":
        """Returns the rows `index`, a (k,) int64 or (n,) bool tensor on any device."""
        index = index.to(self.y.device)
        x = self.x[index]
        y = self.y[index]
        return Dataset(x, y, self.classes)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dataset":
        """Returns the data set on `device`, with x in `dtype`; copies only what is elsewhere."""
        x = self.x.to(device=device, dtype=dtype)
        y = self.y.to(device=device)
        return Dataset(x, y, self.classes)

    def relabel(self, y: Tensor) -> "Dataset":
        """Returns the same instances with the labels `y`, (n,) int64."""
        return Dataset(self.x, y.to(self.y.device), self.classes)


def _is_whole(value: object) -> bool:
    """Whether it is an int, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _check_instances(x: object) -> None:
    """Raises DataError unless x is a tensor of instances in float32 or float64."""
    if not isinstance(x, Tensor):
        raise DataError(
            f"x must be a tensor, got {type(x).__name__}", "torch.as_tensor(x)"
        )
    if not x.is_floating_point():
        raise DataError(
            f"x must be floating point, got {x.dtype}",
            "x.float(); images: x.float() / 255",
        )
    if x.dtype not in FLOATS:
        raise DataError(f"x must be float32 or float64, got {x.dtype}", "x.float()")
    if x.dim() < 2:
        raise DataError(
            f"x must be (n, *shape), got shape {tuple(x.shape)}",
            "one row per instance: (n, features) or (n, channels, height, width)",
        )


def _check_labels(y: object) -> None:
    """Raises DataError unless y is a vector of int64."""
    if not isinstance(y, Tensor):
        raise DataError(
            f"y must be a tensor, got {type(y).__name__}", "torch.as_tensor(y)"
        )
    if y.dtype != torch.int64 or y.dim() != 1:
        raise DataError(
            f"y must be a vector of int64, got {y.dtype} of shape {tuple(y.shape)}",
            "one label per instance, 0, ..., C - 1: y.long()",
        )


def join(parts: list[Dataset]) -> Dataset:
    """Returns the rows of all `parts` in order; they must agree in shape and classes."""
    x = torch.cat([part.x for part in parts])
    y = torch.cat([part.y for part in parts])
    return Dataset(x, y, parts[0].classes)


def stratified(data: Dataset, size: int, seed: int) -> Tensor:
    """Draws `size` rows without replacement, the classes in their original proportions.

    Classes share the rows by the largest remainders.

    Returns:
        (size,) int64 on the CPU, ascending.

    Raises:
        DataError: `size` is no whole number between 1 and the rows there are.
    """
    n = len(data)
    if not _is_whole(size) or not 0 < size <= n:
        raise DataError(
            f"a subset of {size!r} rows cannot be drawn from {n}",
            f"ask for a whole number of rows from 1 to {n}",
        )
    order = torch.randperm(n, generator=generator(seed, "subset"))
    labels = data.y.cpu()[order]
    # rank of every row within its class, as a share of the class: the smallest are stratified
    share = torch.empty(n, dtype=torch.float64)
    for c in range(data.classes):
        rows = (labels == c).nonzero().squeeze(1)
        rank = torch.arange(len(rows), dtype=torch.float64) + 0.5
        share[rows] = rank / max(len(rows), 1)
    chosen = share.argsort(stable=True)[:size]
    return order[chosen].sort().values


def subset(data: Dataset, size: int, seed: int) -> Dataset:
    """Returns the rows that `stratified` draws; raises as it does."""
    return data.take(stratified(data, size, seed))
