"""Data sets as two tensors, resident where they are used: no loader processes, no transforms between model and pixel."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poisonbench.errors import DataError
from poisonbench.registry import lookup
from poisonbench.seeding import generator


@dataclass(frozen=True, eq=False)
class Dataset:
    """Instances and their labels.

    Attributes:
        x: (n, *shape) float32 or float64; images in [0, 1], other data as it is.
        y: (n,) int64 labels in [0, classes).
        classes: number of classes C.

    Raises:
        DataError: the tensors do not fit together.
    """

    x: Tensor
    y: Tensor
    classes: int

    def __post_init__(self) -> None:
        if not self.x.is_floating_point():
            raise DataError(
                f"x must be floating point, got {self.x.dtype}", "images: divide by 255"
            )
        if self.y.dtype != torch.int64 or self.y.dim() != 1:
            raise DataError(
                f"y must be a vector of int64, got {self.y.dtype} of shape {tuple(self.y.shape)}"
            )
        if len(self.x) != len(self.y):
            raise DataError(f"x has {len(self.x)} rows, y has {len(self.y)}")

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one instance."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor) -> "Dataset":
        """Returns the rows `index`, an (k,) int64 or (n,) bool tensor on any device."""
        index = index.to(self.y.device)
        return Dataset(self.x[index], self.y[index], self.classes)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dataset":
        """Returns the data set on `device`, with x in `dtype`; nothing is copied that is there already."""
        return Dataset(
            self.x.to(device=device, dtype=dtype), self.y.to(device=device), self.classes
        )

    def relabel(self, y: Tensor) -> "Dataset":
        """Returns the same instances with the labels `y`, (n,) int64."""
        return Dataset(self.x, y.to(self.y.device), self.classes)


def join(parts: list[Dataset]) -> Dataset:
    """Returns the rows of all `parts` in order; they must agree in shape and classes."""
    return Dataset(
        torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts]), parts[0].classes
    )


def stratified(data: Dataset, size: int, seed: int) -> Tensor:
    """Draws `size` rows without replacement, the classes in their original proportions (largest remainder).

    Returns:
        (size,) int64 on the CPU, ascending.

    Raises:
        DataError: `size` exceeds the rows there are.
    """
    if not 0 < size <= len(data):
        raise DataError(f"a subset of {size} rows cannot be drawn from {len(data)}")
    order = torch.randperm(len(data), generator=generator(seed, "subset"))
    labels = data.y.cpu()[order]
    # rank of every row within its class, as a share of the class: taking the smallest shares is stratified
    share = torch.empty(len(data), dtype=torch.float64)
    for c in range(data.classes):
        rows = (labels == c).nonzero().squeeze(1)
        share[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / max(len(rows), 1)
    return order[share.argsort(stable=True)[:size]].sort().values


def subset(data: Dataset, size: int, seed: int) -> Dataset:
    """Returns the rows that `stratified` draws; raises as it does."""
    return data.take(stratified(data, size, seed))


def default_root() -> Path:
    """Returns the folder of downloaded data: $POISONBENCH_DATA, or ~/.cache/poisonbench."""
    return Path(os.environ.get("POISONBENCH_DATA") or Path.home() / ".cache" / "poisonbench")


def _digits(root: Path, download: bool) -> tuple[Dataset, Dataset]:  # noqa: ARG001 - embedded, needs neither
    """8x8 handwritten digits of scikit-learn, embedded: 1,297 training and 500 test images, 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.tensor(bunch.images / 16.0, dtype=torch.float32).unsqueeze(1)
    full = Dataset(x, torch.tensor(bunch.target, dtype=torch.int64), 10)
    order = torch.randperm(len(full), generator=generator(0, "digits"))
    return full.take(order[:1297]), full.take(order[1297:])


def _vision(cls: str, about: str) -> Callable[[Path, bool], tuple[Dataset, Dataset]]:
    def read(root: Path, download: bool) -> tuple[Dataset, Dataset]:
        import torchvision.datasets

        def part(train: bool) -> Dataset:
            try:
                raw = getattr(torchvision.datasets, cls)(str(root), train=train, download=download)
            except (RuntimeError, OSError) as error:
                if download:
                    raise DataError(
                        f"{cls} cannot be fetched: {' '.join(str(error).split())}",
                        "check the network",
                    ) from error
                way = "add --download, or point --data-root or POISONBENCH_DATA at it"
                raise DataError(f"{cls} was not found in {root.resolve()}", way) from error
            pixels = torch.as_tensor(raw.data)
            pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
            return Dataset(
                pixels.to(torch.float32).div(255).contiguous(), torch.as_tensor(raw.targets), 10
            )

        return part(True), part(False)

    read.__doc__ = about
    return read


DATASETS: dict[str, Callable[[Path, bool], tuple[Dataset, Dataset]]] = {
    "digits": _digits,
    "mnist": _vision(
        "MNIST",
        "28x28 handwritten digits: 60,000 and 10,000 images, 10 classes; read or fetched by torchvision.",
    ),
    "fashion-mnist": _vision(
        "FashionMNIST",
        "28x28 articles of clothing: 60,000 and 10,000 images, 10 classes; read or fetched by torchvision.",
    ),
    "cifar10": _vision(
        "CIFAR10",
        "32x32 colour photographs: 50,000 and 10,000 images, 10 classes; read or fetched by torchvision.",
    ),
}


def load(
    name: str, root: Path | str | None = None, download: bool = False
) -> tuple[Dataset, Dataset]:
    """Loads the training and the test set of a data set.

    Args:
        name: a key of `DATASETS`, or `package.module:callable` of a function `(root, download) -> (train, test)`.
        root: folder of the files; None means `default_root()`. `digits` needs none.
        download: fetch absent files with torchvision. Nothing is ever downloaded without it.

    Raises:
        DataError: the files are not there, or the callable's result is not a pair of `Dataset`.
        ConfigError: no such name.
    """
    read = lookup(DATASETS, name, "dataset")
    folder = Path(root) if root is not None else default_root()
    train, test = read(folder, download)
    return train, test
