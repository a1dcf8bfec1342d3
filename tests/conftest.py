"""Shared fixtures.

Small problems in float64, the digits, and the folder of downloaded data sets.
"""

import os
from pathlib import Path

import pytest
import torch

from poisonbench.data import Dataset, load
from poisonbench.seeding import generator

torch.set_num_threads(1)


def random_data(
    n: int,
    shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Dataset:
    """n instances of uniform pixels with uniform labels."""
    g = generator(seed, "random_data")
    x = torch.rand((n, *shape), generator=g, dtype=torch.float64).to(dtype)
    return Dataset(x, torch.randint(classes, (n,), generator=g), classes)


@pytest.fixture(scope="session")
def digits() -> tuple[Dataset, Dataset]:
    return load("digits")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder that POISONBENCH_DATA names; tests that read downloaded data skip without it."""
    root = os.environ.get("POISONBENCH_DATA")
    if not root:
        pytest.skip(
            "POISONBENCH_DATA is not set: it names the folder with MNIST, "
            "Fashion-MNIST, CIFAR-10, Adult, SST-2 and FSDD"
        )
    return Path(root)
