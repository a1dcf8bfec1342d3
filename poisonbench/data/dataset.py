"""A data set as two tensors, resident where they are used.

There are no loader processes, and no transforms between model and pixel.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poisonbench.data.kind import KINDS, KindName, Layout, kind_by_shape
from poisonbench.errors import DataError
from poisonbench.seeding import generator

FLOATS = (torch.float32, torch.float64)


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
        vocabulary: of tokens, the word of every id; word 0 stands for padding, word 1 for words
            that are not in it. Empty for other kinds.
        precision: of tokens, the floating type of a model's parameters and of influence; None
            means float32. Other kinds are computed in the type of x.

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

    def __post_init__(self) -> None:
        _check_instances(self.x)
        if self.kind is None:
            object.__setattr__(self, "kind", kind_by_shape(self.x))
        _check_kind(self.x, self.kind, self.vocabulary)
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


def _is_whole(value: object) -> bool:
    """Whether it is an int, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _check_instances(x: object) -> None:
    """Raises DataError unless x is a tensor of instances in float32, float64 or int64."""
    if not isinstance(x, Tensor):
        raise DataError(
            f"x must be a tensor, got {type(x).__name__}", "torch.as_tensor(x)"
        )
    if x.dtype not in (*FLOATS, torch.int64):
        raise DataError(
            f"x must be float32 or float64, or int64 token ids, got {x.dtype}",
            "x.float(); images: x.float() / 255; token ids: x.long()",
        )
    if x.dim() < 2:
        raise DataError(
            f"x must be (n, *shape), got shape {tuple(x.shape)}",
            "one row per instance: (n, features) or (n, channels, height, width)",
        )


def _check_kind(x: Tensor, kind: object, vocabulary: tuple[str, ...]) -> None:
    """Raises DataError unless x is of a form that its kind allows."""
    if kind not in KINDS:
        allowed = ", ".join(KINDS)
        raise DataError(
            f"kind must be one of {allowed}, got {kind!r}", "or leave it out"
        )
    rule = KINDS[str(kind)]
    if x.is_floating_point() == rule.whole:
        held = "int64 token ids" if rule.whole else "floating point"
        raise DataError(
            f"x of kind {kind!r} must be {held}, got {x.dtype}",
            f"{rule.name}: {rule.about}",
        )
    if rule.axes is not None and x.dim() - 1 != rule.axes:
        raise DataError(
            f"x of kind {kind!r} must have {rule.axes} axes per instance, "
            f"got shape {tuple(x.shape[1:])}",
            f"{rule.name}: {rule.about}",
        )
    if rule.whole == (not vocabulary):
        needed = "needs a" if rule.whole else "takes no"
        raise DataError(
            f"kind {kind!r} {needed} vocabulary",
            "tokens: Dataset(ids, y, classes, vocabulary=words), the word of every id",
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
