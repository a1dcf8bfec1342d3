"""Shared fixtures.

Small problems in float64, the digits, and the folder of downloaded data sets.
"""

import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pretended import pretended_cuda

from poisonbench.data import Dataset, load
from poisonbench.seeding import generator

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent


def random_data(
    n: int,
    shape: tuple[int, ...] = (2, 8, 8),
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


@pytest.fixture
def cuda() -> Iterator[None]:
    """A CUDA device: that of the machine, or one that is pretended over values on the CPU.

    The latter fails a test that mixes devices, also where the error is caught.
    """
    if torch.cuda.is_available():
        yield
        return
    with pretended_cuda() as device:
        yield
    assert device.mixed == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell in which `poisonbench` and `python` are those of this test run."""
    shim = tmp_path / "bin" / "poisonbench"
    shim.parent.mkdir()
    shim.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m experiments.cli "$@"\n'
    )
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join(
        [str(shim.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
