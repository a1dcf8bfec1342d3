"""Data sets: what is embedded, what torchvision reads, subsets, and clear refusals."""

from pathlib import Path

import pytest
import torch

from poisonbench.data import Dataset, default_root, join, load, subset
from poisonbench.errors import ConfigError, DataError


def test_digits_are_embedded_images_split_without_overlap(digits: tuple[Dataset, Dataset]):
    train, test = digits
    assert (len(train), len(test), train.shape, train.classes) == (1297, 500, (1, 8, 8), 10)
    assert float(train.x.min()) == 0
    assert float(train.x.max()) == 1
    rows = torch.cat([train.x, test.x]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows), "an image stands in both parts, or twice"


@pytest.mark.parametrize(
    ("name", "shape", "n"),
    [
        ("mnist", (1, 28, 28), 60000),
        ("fashion-mnist", (1, 28, 28), 60000),
        ("cifar10", (3, 32, 32), 50000),
    ],
)
def test_downloaded_sets_are_tensors_in_range(
    data_root: Path, name: str, shape: tuple[int, ...], n: int
):
    train, test = load(name, data_root)
    assert (len(train), len(test), train.shape) == (n, 10000, shape)
    assert (float(train.x.min()), float(train.x.max())) == (0.0, 1.0)
    assert bool((test.y.bincount() > 0).all())


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_an_absent_set_names_the_folder_and_the_ways_out(tmp_path: Path, name: str):
    with pytest.raises(DataError, match="was not found in") as caught:
        load(name, tmp_path)
    assert str(tmp_path.resolve()) in str(caught.value)
    assert "--download" in caught.value.hint
    assert not list(tmp_path.rglob("*.gz")), "nothing may be downloaded unasked"


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POISONBENCH_DATA", "somewhere")
    assert default_root() == Path("somewhere")
    monkeypatch.delenv("POISONBENCH_DATA")
    assert default_root() == Path.home() / ".cache" / "poisonbench"


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        load("digit")


def test_a_subset_keeps_the_proportions_and_the_rows(digits: tuple[Dataset, Dataset]):
    train, _ = digits
    part = subset(train, 300, seed=4)
    assert len(part) == 300
    share = part.y.bincount(minlength=10) / 300 - train.y.bincount(minlength=10) / len(train)
    assert float(share.abs().max()) < 1 / 300 + 1e-6
    known = {x.numpy().tobytes() for x in train.x}
    assert all(x.numpy().tobytes() in known for x in part.x)
    assert torch.equal(subset(train, 300, seed=4).x, part.x)
    assert not torch.equal(subset(train, 300, seed=5).x, part.x)
    assert len(subset(train, len(train), seed=0)) == len(train)
    with pytest.raises(DataError, match="cannot be drawn"):
        subset(train, 2000, seed=0)


def test_rows_are_taken_by_index_and_mask():
    data = Dataset(torch.arange(4.0)[:, None], torch.tensor([0, 1, 0, 1]), 2)
    assert torch.equal(data.take(data.y == 1).x.flatten(), torch.tensor([1.0, 3.0]))
    assert torch.equal(data.take(torch.tensor([2, 0])).x.flatten(), torch.tensor([2.0, 0.0]))
    assert torch.equal(
        join([data, data.relabel(1 - data.y)]).y, torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    )
    assert data.to(dtype=torch.float64).x.dtype == torch.float64


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "floating point"),
        (torch.zeros(2, 3), torch.zeros(2), "int64"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), "2 rows, y has 3"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(x: torch.Tensor, y: torch.Tensor, match: str):
    with pytest.raises(DataError, match=match):
        Dataset(x, y, 2)
