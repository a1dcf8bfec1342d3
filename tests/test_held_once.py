"""Large data are held once: what looks at all rows copies some at a time, or none."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from poisonbench.contracts.attack_rules import broken_rules
from poisonbench.contracts.values import Poisoned
from poisonbench.data import Dataset, dataset
from poisonbench.data.dataset import row_blocks, subset
from poisonbench.log import Record
from poisonbench.poison_file import pack_poison, unpack_train
from poisonbench.roles import CLEAN, POISON
from poisonbench.seeding import generator

N = 400
CHANGED = [3, 77, 399]


class Made(TorchDispatchMode):
    """Counts the memory of at least `entries` that operations make."""

    def __init__(self, *given: torch.Tensor) -> None:
        super().__init__()
        self.entries = given[0].numel() // 2
        self.known = {tensor.untyped_storage().data_ptr() for tensor in given}
        self.held: list[torch.Tensor] = []  # so that no address comes again

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.numel() >= self.entries:
            place = found.untyped_storage().data_ptr()
            if place not in self.known:
                self.known.add(place)
                self.held.append(found)
        return found


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(dataset, "AT_ONCE", 48 * 50)
    x = torch.rand(N, 3, 4, 4, generator=generator(0, "values"))
    return Dataset(x, torch.arange(N) % 4, 4)


@pytest.fixture
def poisoned(clean: Dataset) -> Poisoned:
    x = clean.x.clone()
    x[CHANGED, 0, 0, 0] = 1.0
    y = clean.y.clone()
    y[CHANGED] = 2
    role = torch.full((N,), CLEAN, dtype=torch.uint8)
    role[CHANGED] = POISON
    return Poisoned(
        train=clean.rows(x, y),
        role=role,
        origin=torch.arange(N),
        targets=clean.take(torch.tensor([0])),
        wanted=torch.tensor([2]),
        target_origin=torch.tensor([0]),
    )


def test_blocks_of_rows_are_all_rows_in_order(clean: Dataset) -> None:
    rows = list(row_blocks(clean))
    assert len(rows) == N // 50
    assert torch.equal(torch.cat([clean.x[part] for part in rows]), clean.x)


def test_a_subset_of_all_rows_is_no_copy(clean: Dataset) -> None:
    assert subset(clean, N, 0) is clean
    assert len(subset(clean, N - 4, 0)) == N - 4


def test_a_poisoning_is_checked_and_packed_some_rows_at_a_time(
    clean: Dataset, poisoned: Poisoned
) -> None:
    class Attack:
        budget = 0.01
        eps = 1.0

    with Made(clean.x, poisoned.train.x) as made:
        assert not list(broken_rules(poisoned, clean, clean, Attack()))
        packed = pack_poison(poisoned, clean)
    assert not made.held
    assert packed["rows"].tolist() == CHANGED
    far = clean.x.clone()
    far[CHANGED[-1]] = 1 - far[CHANGED[-1]]
    Attack.eps = 0.01
    moved = replace(poisoned, train=poisoned.train.rows(far, poisoned.train.y))
    [broken] = broken_rules(moved, clean, clean, Attack())
    assert broken.rule == "eps"


def test_a_poisoned_set_is_made_from_the_clean_one_by_one_copy(
    clean: Dataset, poisoned: Poisoned
) -> None:
    packed = pack_poison(poisoned, clean)
    data = {f"poison/{name}": value.numpy() for name, value in packed.items()}
    record = Record(Path("s"), "scene", {}, data, {})
    with Made(clean.x) as made:
        again = unpack_train(record, clean)
    assert len(made.held) == 1
    assert torch.equal(again.x, poisoned.train.x)
    assert torch.equal(again.y, poisoned.train.y)
    assert not torch.equal(again.x, clean.x), "the clean set is left as it is"


READ = """
import sys
import numpy as np
import torch
from types import SimpleNamespace
from experiments.scene.cost import measured
from experiments.scene.sources import read_data
from poisonbench.data.built_in.pictures import _images

pixels = np.zeros((40_000, 32, 32, 3), np.uint8)
raw = SimpleNamespace(data=pixels, targets=[0] * len(pixels))
_images(SimpleNamespace(data=pixels[:9], targets=[0] * 9))
with measured(torch.device("cpu")) as images:
    x = _images(raw).x
size = x.nbytes
np.savez(sys.argv[1], x=x.numpy(), y=np.zeros(len(x), np.int64))
del x
with measured(torch.device("cpu")) as read:
    read_data(sys.argv[1], "the training set")
print(images.peak_bytes / size, read.peak_bytes / size)
"""


def test_images_and_files_are_read_into_memory_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", READ, str(tmp_path / "train.npz")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    images, read = map(float, done.stdout.split())
    assert images < 1.5, "pixels as numbers should be made once"
    assert read < 1.5
