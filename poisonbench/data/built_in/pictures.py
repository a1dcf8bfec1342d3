"""Pictures: the digits of scikit-learn, and those that torchvision reads."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from poisonbench.data.dataset import Dataset
from poisonbench.errors import DataError
from poisonbench.seeding import generator

Reader = Callable[[Path, bool], tuple[Dataset, Dataset]]
DIGITS_TRAIN = 1297  # rows of the digits' training set, which scikit-learn does not fix


def digits(root: Path, download: bool) -> tuple[Dataset, Dataset]:  # noqa: ARG001 - embedded
    """8x8 handwritten digits of scikit-learn, 1,297 and 500 images, 10 classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images / 16.0, dtype=torch.float32)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    full = Dataset(images.unsqueeze(1), labels, 10)
    order = torch.randperm(len(full), generator=generator(0, "digits"))
    train = full.take(order[:DIGITS_TRAIN])
    test = full.take(order[DIGITS_TRAIN:])
    return train, test


def of_torchvision(name: str, about: str) -> Reader:
    """Returns the reader of a class of `torchvision.datasets`; `list` shows `about`."""

    def read(root: Path, download: bool) -> tuple[Dataset, Dataset]:
        train = _images(_opened(name, root, True, download))
        test = _images(_opened(name, root, False, download))
        return train, test

    read.__doc__ = about
    return read


def _opened(name: str, root: Path, train: bool, download: bool) -> Any:
    """Opens one part of a torchvision data set.

    Raises:
        DataError: it is not on disk, or cannot be fetched.
    """
    import torchvision.datasets

    cls = getattr(torchvision.datasets, name)
    try:
        return cls(str(root), train=train, download=download)
    except (RuntimeError, OSError) as error:
        if download:
            why = " ".join(str(error).split())
            raise DataError(
                f"{name} cannot be fetched: {why}", "check the network"
            ) from error
        way = "add --download, or point --data-root or POISONBENCH_DATA at it"
        raise DataError(f"{name} was not found in {root.resolve()}", way) from error


def _images(raw: Any) -> Dataset:
    """The images and labels of a torchvision data set, in [0, 1] and (channels, height, width)."""
    pixels = torch.as_tensor(raw.data)
    pixels = pixels.unsqueeze(1) if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    x = torch.empty(pixels.shape)  # held once: of bytes it is four times what was read
    x.copy_(pixels).div_(255)
    y = torch.as_tensor(raw.targets)
    return Dataset(x, y, 10)
