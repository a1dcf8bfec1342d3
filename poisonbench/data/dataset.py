"""A data set as two tensors, resident where they are used.

There are no loader processes, and no transforms between model and pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b

import torch
from torch import Tensor

from poisonbench.data.form import (
    COLUMNS_WAY,
    VOCABULARY_WAY,
    as_names,
    check_columns,
    check_instances,
    check_kind,
    check_labels,
    is_whole,
)
from poisonbench.data.kind import KindName, Layout, kind_by_shape
from poisonbench.errors import DataError
from poisonbench.seeding import generator

DIGEST = 16  # bytes, in which no two instances of a data set meet by chance
AT_ONCE = 1 << 22  # values of rows that are looked at together


@dataclass(frozen=True, eq=False)
class Dataset:
    """Instances and their labels.

    Attributes:
        x: (n, *shape) float32 or float64, or int64 token ids (n, L). What is allowed, by kind, is
            told in `poisonbench.data.kind`.
        y: (n,) int64 labels in [0, classes).
        classes: number of classes C.
        kind: of the instances; None takes it from x: whole numbers are tokens, three axes an
            image, anything else a vector.
        vocabulary: of tokens, the word of every id: a tuple, or a list or array made into one;
            word 0 stands for padding, word 1 for words that are not in it. Empty for other kinds.
        precision: of tokens, the floating type of a model's parameters and of influence; None
            means float32. Other kinds are computed in the type of x.
        columns: of vectors, the name of every feature; may be empty.

    Raises:
        DataError: the tensors are of another type or do not fit together. Values are judged by
            `poisonbench.data.load`, once.
    """

    x: Tensor
    y: Tensor
    classes: int
    kind: KindName | None = None
    vocabulary: tuple[str, ...] = ()
    precision: torch.dtype | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_instances(self.x)
        words = as_names(self.vocabulary, "vocabulary", VOCABULARY_WAY)
        object.__setattr__(self, "vocabulary", words)
        names = as_names(self.columns, "columns", COLUMNS_WAY)
        object.__setattr__(self, "columns", names)
        if self.kind is None:
            object.__setattr__(self, "kind", kind_by_shape(self.x))
        check_kind(self.x, self.kind, self.vocabulary)
        check_columns(self.x, self.kind, self.columns)
        check_labels(self.y)
        if len(self.x) != len(self.y):
            raise DataError(
                f"x has {len(self.x)} rows, y has {len(self.y)}",
                "one label per instance",
            )
        if not is_whole(self.classes) or self.classes < 1:
            raise DataError(
                f"classes must be a whole number of at least 1, got {self.classes!r}",
                "an int: labels are 0, ..., classes - 1",
            )

    def __repr__(self) -> str:
        return f"Dataset({len(self)} instances {self.layout})"

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one instance."""
        return tuple(self.x.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """The floating type in which a model of these data computes, and influence is told."""
        if self.x.is_floating_point():
            return self.x.dtype
        return self.precision or torch.float32

    @property
    def layout(self) -> Layout:
        """What a model must know to be built for these data."""
        assert self.kind is not None
        return Layout(self.shape, self.classes, self.kind, len(self.vocabulary))

    @cached_property
    def extent(self) -> tuple[float, float]:
        """The least and the largest value of x, (0, 0) without one."""
        if not self.x.numel():
            return 0.0, 0.0
        ends = self.x.aminmax()
        return float(ends.min), float(ends.max)

    def zeros(self, *size: int) -> Tensor:
        """Returns zeros of the given size, where the data lie and in their `dtype`."""
        return torch.zeros(size, dtype=self.dtype, device=self.x.device)

    def take(self, index: Tensor) -> "Dataset":
        """Returns the rows `index`, a (k,) int64 or (n,) bool tensor on any device."""
        index = index.to(self.y.device)
        return self.rows(self.x[index], self.y[index])

    def rows(self, x: Tensor, y: Tensor) -> "Dataset":
        """Returns other instances of the same kind: x (k, *shape) with labels y (k,)."""
        return replace(self, x=x, y=y)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dataset":
        """Returns the data set on `device`, in `dtype`; copies only what is elsewhere.

        Token ids stay int64; `dtype` is then the type of what is computed from them.
        """
        y = self.y.to(device=device)
        if self.x.is_floating_point():
            return self.rows(self.x.to(device=device, dtype=dtype), y)
        precision = dtype or self.precision
        return replace(self, x=self.x.to(device=device), y=y, precision=precision)

    def relabel(self, y: Tensor) -> "Dataset":
        """Returns the same instances with the labels `y`, (n,) int64."""
        return self.rows(self.x, y.to(self.y.device))


def join(parts: list[Dataset]) -> Dataset:
    """Returns the rows of all `parts` in order; they must agree in shape and classes."""
    x = torch.cat([part.x for part in parts])
    y = torch.cat([part.y for part in parts])
    return parts[0].rows(x, y)


def stratified(data: Dataset, size: int, seed: int) -> Tensor:
    """Draws `size` rows without replacement, the classes in their original proportions.

    Classes share the rows by the largest remainders.

    Returns:
        (size,) int64 on the CPU, ascending.

    Raises:
        DataError: `size` is no whole number between 1 and the rows there are.
    """
    n = len(data)
    if not is_whole(size) or not 0 < size <= n:
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
    """Returns the rows that `stratified` draws; raises as it does. All rows are not copied."""
    rows = stratified(data, size, seed)
    return data if size == len(data) else data.take(rows)


def row_blocks(data: Dataset) -> Iterator[slice]:
    """Yields all rows in order, some at a time: what is computed of these is small beside data."""
    each = max(1, data.x[:1].numel())
    step = max(1, AT_ONCE // each)
    for start in range(0, len(data), step):
        yield slice(start, start + step)


def digests(data: Dataset) -> list[bytes]:
    """Returns a digest of the values of every instance; float32 and float64 agree."""
    found = []
    for rows in row_blocks(data):
        flat = data.x[rows].detach().flatten(1)
        wide = flat.to(device="cpu", dtype=torch.float64) + 0.0  # -0 is 0
        found += [
            blake2b(row.tobytes(), digest_size=DIGEST).digest()
            for row in wide.contiguous().numpy()
        ]
    return found


def among(points: Dataset, rows: Dataset) -> Tensor:
    """Returns which points have the values of one of the rows, whatever their labels: (m,) bool."""
    known = set(digests(rows))
    return torch.tensor([digest in known for digest in digests(points)]).bool()
