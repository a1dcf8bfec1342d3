"""Data sets: what is embedded, what torchvision reads, subsets, and clear refusals."""

import hashlib
import re
import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import Subset, TensorDataset

from poisonbench.data import (
    PAD,
    Dataset,
    check_pair,
    check_values,
    default_root,
    join,
    load,
    subset,
)
from poisonbench.data.built_in.published import Published
from poisonbench.data.classes import CLASS_NAMES, named_classes, of_classes
from poisonbench.data.tokens import edits
from poisonbench.errors import ConfigError, DataError
from poisonbench.seeding import generator


def test_digits_are_embedded_images_split_without_overlap(
    digits: tuple[Dataset, Dataset],
):
    train, test = digits
    assert (len(train), len(test), train.shape, train.classes) == (
        1297,
        500,
        (1, 8, 8),
        10,
    )
    assert float(train.x.min()) == 0
    assert float(train.x.max()) == 1
    rows = torch.cat([train.x, test.x]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows), (
        "an image stands in both parts, or twice"
    )


def test_the_digits_are_split_in_the_order_of_their_own_stream_of_seed_0(
    digits: tuple[Dataset, Dataset],
):
    bunch = load_digits()
    order = torch.randperm(1797, generator=generator(0, "digits")).numpy()
    train, test = digits
    assert torch.cat([train.y, test.y]).tolist() == bunch.target[order].tolist()
    x = torch.cat([train.x, test.x]).squeeze(1)
    assert torch.equal(x, torch.tensor(bunch.images[order] / 16, dtype=torch.float32))


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


@pytest.mark.parametrize("name", ["adult", "sst2", "fsdd"])
def test_an_absent_file_is_named_with_its_home(tmp_path: Path, name: str):
    with pytest.raises(
        DataError, match=f"{name}/.* was not found in .*https://"
    ) as caught:
        load(name, tmp_path)
    assert "--data-root" in caught.value.hint
    assert not list(tmp_path.rglob("*")), "nothing may be downloaded unasked"


def test_an_absent_file_whose_form_is_our_own_says_what_is_expected(tmp_path: Path):
    with pytest.raises(DataError, match="npz") as caught:
        load("fsdd", tmp_path, download=True)
    assert "uint8" in caught.value.hint


def published(tmp_path: Path, held: bytes) -> Published:
    """A file with its home in another folder."""
    home = tmp_path / "home.txt"
    home.write_bytes(held)
    return Published("set/a.txt", home.as_uri(), hashlib.sha256(held).hexdigest())


def test_a_published_file_is_fetched_when_asked_and_then_stays(tmp_path: Path):
    root = tmp_path / "root"
    file = published(tmp_path, b"rows")
    with pytest.raises(DataError, match="was not found"):
        file.read(root, download=False)
    assert file.read(root, download=True) == b"rows"
    (tmp_path / "home.txt").unlink()
    assert file.read(root, download=True) == b"rows"
    names = [path.name for path in (root / "set").iterdir()]
    assert names == ["a.txt"], "a part of a download was left behind"


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path):
    file = published(tmp_path, b"rows")
    place = tmp_path / file.path
    place.parent.mkdir()
    place.write_bytes(b"other rows")
    with pytest.raises(DataError, match="is not the published file"):
        file.read(tmp_path, download=True)


def test_a_home_out_of_reach_leaves_nothing_behind(tmp_path: Path):
    file = published(tmp_path, b"rows")
    (tmp_path / "home.txt").unlink()
    with pytest.raises(DataError, match="cannot be fetched"):
        file.read(tmp_path, download=True)
    assert not list((tmp_path / "set").iterdir())


def test_adult_is_standardised_by_the_training_rows(data_root: Path):
    train, test = load("adult", data_root)
    check_pair(train, test)
    assert (len(train), len(test), train.shape, train.kind) == (
        26049,
        6512,
        (108,),
        "vector",
    )
    is_number = torch.tensor(["=" not in name for name in train.columns])
    numbers = train.x[:, is_number].double()
    assert torch.allclose(numbers.mean(0), torch.zeros(6).double(), atol=1e-5)
    assert torch.allclose(numbers.std(0), torch.ones(6).double(), atol=1e-5)
    hot = train.x[:, ~is_number]
    assert bool(((hot == 0) | (hot == 1)).all())
    assert bool((hot.sum(1) == 8).all()), "one value of each of eight categories"
    sexes = [train.columns.index(f"sex={name}") for name in ("Female", "Male")]
    everyone = torch.cat([train.x, test.x])[:, sexes].sum(0)
    assert everyone.tolist() == [10771, 21790]


def test_sentences_are_words_of_a_vocabulary_of_the_training_split(data_root: Path):
    train, test = load("sst2", data_root)
    check_pair(train, test)
    assert (len(train), len(test), train.kind) == (6920, 1821, "tokens")
    lines = (data_root / "sst2/train.tsv").read_text("utf-8").splitlines()
    counts = Counter(word for line in lines for word in line.split("\t")[0].split())
    assert set(train.vocabulary[2:]) == {w for w, times in counts.items() if times > 1}
    assert train.vocabulary == test.vocabulary
    for part, name in ((train, "train"), (test, "test")):
        lines = (data_root / f"sst2/{name}.tsv").read_text("utf-8").splitlines()
        for row, line in list(enumerate(lines))[::100]:
            words = line.split("\t")[0].split()
            told = [part.vocabulary[i] for i in part.x[row].tolist() if i != PAD]
            assert told == [w if counts[w] > 1 else "<unknown>" for w in words]
            assert int(part.y[row]) == int(line[-1])


def test_spoken_digits_are_spectrograms_of_six_speakers(data_root: Path):
    train, test = load("fsdd", data_root)
    check_pair(train, test)
    assert (len(train), len(test), train.shape, train.kind) == (
        2700,
        300,
        (1, 40, 64),
        "spectrogram",
    )
    assert test.y.bincount().tolist() == [30] * 10
    assert (float(train.x.min()), float(train.x.max())) == (0.0, 1.0)


@pytest.mark.parametrize("missing", ["x", "y", "test"])
def test_an_archive_of_another_form_is_refused_with_what_is_expected(
    tmp_path: Path, missing: str
):
    arrays = {
        "x": np.zeros((2, 40, 64), np.uint8),
        "y": np.zeros(2, np.uint8),
        "test": np.array([True, False]),
    }
    place = tmp_path / "fsdd" / "fsdd_logmel.npz"
    place.parent.mkdir()
    np.savez(place, **arrays)
    assert len(load("fsdd", tmp_path)[0]) == 1
    np.savez(place, **{**arrays, missing: np.zeros((3, 3))})
    with pytest.raises(DataError, match="another form"):
        load("fsdd", tmp_path)
    del arrays[missing]
    np.savez(place, **arrays)
    with pytest.raises(DataError, match="cannot be read"):
        load("fsdd", tmp_path)
    place.write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        load("fsdd", tmp_path)


def test_names_of_features_are_one_for_each_feature_of_a_vector():
    x = torch.zeros(2, 3)
    y = torch.zeros(2, dtype=torch.int64)
    named = Dataset(x, y, 2, columns=("a", "b", "c"))
    assert named.take(torch.tensor([0])).columns == ("a", "b", "c")
    with pytest.raises(DataError, match="do not name vector instances"):
        Dataset(x, y, 2, columns=("a", "b"))
    with pytest.raises(DataError, match="do not name image instances"):
        Dataset(torch.zeros(2, 1, 1, 3), y, 2, columns=("a", "b", "c"))


@pytest.mark.parametrize("form", [list, np.array, tuple])
def test_words_come_as_a_list_an_array_or_a_tuple(form: Callable[[object], Any]):
    data = Dataset(IDS, Y, 3, vocabulary=form(list(WORDS)))
    assert data.vocabulary == WORDS
    assert {type(word) for word in data.vocabulary} == {str}
    named = Dataset(TABLE.x, Y, 3, columns=form(["a", "b"]))
    assert named.columns == TABLE.columns


@pytest.mark.parametrize("given", ["abcd", {"": 0, "?": 1, "a": 2, "b": 3}, set(), 4])
def test_words_without_an_order_are_refused(given: Any):
    with pytest.raises(DataError, match=r"vocabulary must be .*sorted\(ids"):
        Dataset(IDS, Y, 3, vocabulary=given)
    with pytest.raises(DataError, match="columns must be the words in order"):
        Dataset(TABLE.x, Y, 3, columns=given)


def test_token_ids_as_floats_are_told_to_be_whole_numbers():
    with pytest.raises(DataError, match=r"x of torch.float32.*ids\.long\(\)"):
        Dataset(IDS.float(), Y, 3, vocabulary=WORDS)


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
    share = part.y.bincount(minlength=10) / 300 - train.y.bincount(minlength=10) / len(
        train
    )
    assert float(share.abs().max()) < 1 / 300 + 1e-6
    known = {x.numpy().tobytes() for x in train.x}
    assert all(x.numpy().tobytes() in known for x in part.x)
    assert torch.equal(subset(train, 300, seed=4).x, part.x)
    assert not torch.equal(subset(train, 300, seed=5).x, part.x)
    assert len(subset(train, len(train), seed=0)) == len(train)
    with pytest.raises(DataError, match="cannot be drawn"):
        subset(train, 2000, seed=0)


def test_chosen_classes_keep_their_rows_and_are_numbered_in_the_order_given():
    y = torch.tensor([2, 0, 1, 2, 0, 3])
    data = Dataset(torch.arange(6.0).unsqueeze(1), y, 4, columns=("width",))
    part = of_classes(data, "mine", (2, 0))
    assert part.x.squeeze(1).tolist() == [0, 1, 3, 4]
    assert part.y.tolist() == [0, 1, 0, 1]
    assert part.classes == 2
    assert part.columns == data.columns
    assert part.kind == data.kind


def test_classes_of_pictures_have_the_names_that_torchvision_gives_them():
    from torchvision.datasets import FashionMNIST

    assert CLASS_NAMES["fashion-mnist"] == tuple(FashionMNIST.classes)
    assert named_classes("cifar10", (0, "bird")) == ("airplane", "bird")
    data = Dataset(torch.zeros(10, 3, 8, 8), torch.arange(10), 10)
    part = of_classes(data, "cifar10", ("truck", "airplane"))
    assert part.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "classes", "told"),
    [
        ("cifar10", ("airplane", "brid"), "did you mean 'bird'"),
        ("cifar10", (0, "airplane"), "differ from each other"),
        ("cifar10", (0, 10), "below 10, got 10"),
        ("cifar10", (3,), "at least 2"),
        ("mnist", (0, -1), "at least 0, got -1"),
        ("mnist", ("zero", "one"), "give numbers"),
    ],
)
def test_classes_that_there_are_not_are_refused(name: str, classes: tuple, told: str):
    with pytest.raises(ValueError, match=told):
        named_classes(name, classes)


def test_a_number_beyond_the_classes_of_the_data_is_refused():
    with pytest.raises(DataError, match="has no class 3"):
        of_classes(Dataset(X, Y, 3), "mine", (0, 3))


def test_rows_are_taken_by_index_and_mask():
    data = Dataset(torch.arange(4.0)[:, None], torch.tensor([0, 1, 0, 1]), 2)
    assert torch.equal(data.take(data.y == 1).x.flatten(), torch.tensor([1.0, 3.0]))
    assert torch.equal(
        data.take(torch.tensor([2, 0])).x.flatten(), torch.tensor([2.0, 0.0])
    )
    assert torch.equal(
        join([data, data.relabel(1 - data.y)]).y, torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    )
    assert data.to(dtype=torch.float64).x.dtype == torch.float64


X = torch.rand((6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
TEST = (X[:3], Y[:3])
MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
DEVIATION = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


def changed(tensor: torch.Tensor, row: int, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[row] = value
    return tensor


@pytest.mark.parametrize(
    ("x", "y", "classes", "match"),
    [
        (torch.zeros(2, 3, dtype=torch.uint8), Y[:2], 2, "float32 or float64"),
        (torch.zeros(2, 3, dtype=torch.int64), Y[:2], 2, "needs a vocabulary"),
        (
            torch.zeros(2, 3, dtype=torch.float16),
            Y[:2],
            2,
            "got .*float16",
        ),
        (torch.zeros(2), Y[:2], 2, "one row per instance"),
        (torch.zeros(2, 3), torch.zeros(2), 2, r"int64.*y\.long\(\)"),
        (torch.zeros(2, 3), Y[:2].view(2, 1), 2, "vector of int64"),
        (torch.zeros(2, 3), Y[:3], 2, "2 rows, y has 3"),
        (np.zeros((2, 3)), Y[:2], 2, "x must be a tensor, got ndarray.*as_tensor"),
        (torch.zeros(2, 3), [0, 1], 2, "y must be a tensor, got list"),
        (torch.zeros(2, 3), Y[:2], 0, "classes must be .* at least 1, got 0"),
        (torch.zeros(2, 3), Y[:2], 2.0, "classes must be a whole number"),
        (torch.zeros(2, 3), Y[:2], True, "classes must be a whole number"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(x, y, classes, match: str):
    with pytest.raises(DataError, match=match):
        Dataset(x, y, classes)


@pytest.mark.parametrize("size", [0, -1, 7, 2.0, True, None])
def test_a_subset_of_no_rows_or_of_too_many_is_refused_with_what_there_is(size):
    with pytest.raises(DataError, match=r"from 6.*whole number of rows from 1 to 6"):
        subset(Dataset(X, Y, 3), size, seed=0)


class Rows(torch.utils.data.Dataset):
    """Rows as torch's data sets give them; each may be asked for twice."""

    def __init__(self, rows):
        self.rows = rows
        self.asked = []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        assert self.asked.count(row) < 2, "read more than twice"
        self.asked.append(row)
        return self.rows[row]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([])


class Augmented(Rows):
    """Mirrors a row, or relabels it, every second time that it is asked for."""

    def __init__(self, relabels=False):
        super().__init__(list(zip(X, Y.tolist(), strict=True)))
        self.relabels = relabels

    def __getitem__(self, row):
        x, y = super().__getitem__(row)
        if self.asked.count(row) == 1:
            return x, y
        return (x, 1 - y % 2) if self.relabels else (x.flip(-1), y)


def pictures(x: torch.Tensor) -> list:
    """Images of bytes as those of PIL, grey where there is one channel."""
    arrays = [image.permute(1, 2, 0).numpy() for image in x]
    return [
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        for array in arrays
    ]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch):
    """Loads what a function of a user's own module returns, or the function itself."""

    def load_own(found):
        module = types.ModuleType("own_data")
        module.make = found if isinstance(found, types.FunctionType) else lambda: found
        monkeypatch.setitem(sys.modules, "own_data", module)
        return load("own_data:make", "somewhere", download=True)

    return load_own


BYTES = (X * 255).round().to(torch.uint8)
GREY = BYTES[:, :1]
PLAIN = (Dataset(X, Y, 3), Dataset(X[:3], Y[:3], 3))
FROM_BYTES = (
    Dataset(BYTES.float() / 255, Y, 3),
    Dataset(BYTES[:3].float() / 255, Y[:3], 3),
)
FROM_GREY = (
    Dataset(GREY.float() / 255, Y, 3),
    Dataset(GREY[:3].float() / 255, Y[:3], 3),
)
CONVERTIBLE = {
    "data sets": (PLAIN, PLAIN),
    "a list of data sets": (list(PLAIN), PLAIN),
    "tensors": (((X, Y), TEST), PLAIN),
    "lists of tensors": ([[X, Y], [X[:3], Y[:3]]], PLAIN),
    "arrays": (((X.numpy(), Y.numpy()), (X[:3].numpy(), Y[:3].numpy())), PLAIN),
    "lists of numbers": (((X.tolist(), Y.tolist()), (X[:3].tolist(), [0, 1, 2])), None),
    "read-only arrays": (
        tuple(
            (np.broadcast_to(x.numpy(), x.shape), y.numpy()) for x, y in ((X, Y), TEST)
        ),
        PLAIN,
    ),
    "arrays of another byte order": (
        ((X.numpy().astype(">f4"), Y.numpy().astype(">i8")), TEST),
        PLAIN,
    ),
    "arrays read backwards": (
        ((X.flip(0).numpy()[::-1], Y.flip(0).numpy()[::-1]), TEST),
        PLAIN,
    ),
    "tensors with gradients": (((X.clone().requires_grad_(), Y), TEST), PLAIN),
    "small whole labels": (
        ((X, Y.to(torch.uint8)), (X[:3], Y[:3].numpy().astype("int16"))),
        PLAIN,
    ),
    "a TensorDataset": ((TensorDataset(X, Y), TensorDataset(*TEST)), PLAIN),
    "a subset of a TensorDataset": (
        (Subset(TensorDataset(X, Y), range(6)), TensorDataset(*TEST)),
        PLAIN,
    ),
    "a data set of torch": (
        (
            Rows(list(zip(X, Y.tolist(), strict=True))),
            Rows(list(zip(*TEST, strict=True))),
        ),
        PLAIN,
    ),
    "one part of each form": ((PLAIN[0], TEST), PLAIN),
    "half floats": (((X.half(), Y), (X[:3].half(), Y[:3])), None),
    "images of bytes": (((BYTES, Y), (BYTES[:3].numpy(), Y[:3])), FROM_BYTES),
    "pictures": (
        (
            Rows(list(zip(pictures(BYTES), Y.tolist(), strict=True))),
            Rows(list(zip(pictures(BYTES[:3]), [0, 1, 2], strict=True))),
        ),
        FROM_BYTES,
    ),
    "grey pictures": (
        (
            Rows(list(zip(pictures(GREY), Y.tolist(), strict=True))),
            Rows(list(zip(pictures(GREY[:3]), [0, 1, 2], strict=True))),
        ),
        FROM_GREY,
    ),
    "features outside [0, 1]": (
        ((9 * X.flatten(1) - 4, Y), (9 * X[:3].flatten(1) - 4, Y[:3])),
        (
            Dataset(9 * X.flatten(1) - 4, Y, 3),
            Dataset(9 * X[:3].flatten(1) - 4, Y[:3], 3),
        ),
    ),
    "images three pixels wide": (
        ((X[..., :3], Y), (X[:3, ..., :3], Y[:3])),
        (Dataset(X[..., :3], Y, 3), Dataset(X[:3, ..., :3], Y[:3], 3)),
    ),
    "a class that a data set leaves empty": (
        (Dataset(X, Y, 4), Dataset(X[:3], Y[:3], 4)),
        (Dataset(X, Y, 4), Dataset(X[:3], Y[:3], 4)),
    ),
    "a function with a default of its own": (
        lambda size=6: ((X[:size], Y[:size]), TEST),
        PLAIN,
    ),
    "a function with root and download": (
        lambda root, download: (
            PLAIN
            if (root, download) == (Path("somewhere"), True)
            else pytest.fail("swapped")
        ),
        PLAIN,
    ),
    "a function with root alone": (
        lambda root, seed=3: PLAIN if (root, seed) == (Path("somewhere"), 3) else None,
        PLAIN,
    ),
    "a function with two arguments of any name": (
        lambda folder, fetch: (
            PLAIN if (folder, fetch) == (Path("somewhere"), True) else None
        ),
        PLAIN,
    ),
}
FLOATS_OF = {
    "lists of numbers": (X.double(), torch.float64),
    "half floats": (X.half().float(), torch.float32),
}


@pytest.mark.parametrize("form", CONVERTIBLE)
def test_what_needs_no_guess_becomes_the_plain_data_set(form: str, own):
    found, plain = CONVERTIBLE[form]
    for part, rows, given in zip(
        own(found), (6, 3), plain or (None, None), strict=True
    ):
        x = given.x if given else FLOATS_OF[form][0][:rows]
        assert part.x.dtype == (given.x.dtype if given else FLOATS_OF[form][1])
        assert torch.equal(part.x, x)
        assert torch.equal(part.y, Y[:rows])
        assert part.classes == (given.classes if given else 3)
        assert not part.x.requires_grad


HWC = X.permute(0, 2, 3, 1)
NORMALISED = (X - MEAN) / DEVIATION
NORMALISED[0, :, 0, 0] = ((0 - MEAN) / DEVIATION).flatten()
NORMALISED[0, :, 0, 1] = ((1 - MEAN) / DEVIATION).flatten()
NAMES = np.array(["cat", "dog", "eel"] * 2)
IDS = torch.tensor([[2, 3, 0], [3, 0, 0], [1, 2, 2]] * 2)
WORDS = ("", "?", "bad", "good")
SENTENCES = Dataset(IDS, Y, 3, vocabulary=WORDS)
SOUND = Dataset(X, Y, 3, "spectrogram")
TABLE = Dataset(X.flatten(1)[:, :2], Y, 3, columns=("a", "b"))
WRONG_KINDS = [  # both parts, words of the fault, words of the way out
    (
        (SENTENCES.rows(changed(IDS, 4, 4), Y), SENTENCES),
        r"training set has token ids from 4 to 4 in row 4, outside \[0, 4\)",
        "the word of every id",
    ),
    (
        (SENTENCES, SENTENCES.rows(changed(IDS, 1, -1), Y)),
        "test set has token ids from -1 to -1 in row 1",
        "the word of every id",
    ),
    (
        (SENTENCES.rows(IDS.flip(1), Y), SENTENCES),
        r"padding \(id 0\) before a word in row 0",
        "to the front",
    ),
    (
        (SENTENCES.rows(changed(IDS, 3, 0), Y), SENTENCES),
        "in row 3, or no word at all",
        "drop sentences",
    ),
    (
        (SENTENCES.rows(IDS, Y + 1), SENTENCES),
        r"label 3 in row 2, outside \[0, 3\)",
        "subtract 1",
    ),
    (
        (SENTENCES, Dataset(IDS, Y, 3, vocabulary=(*WORDS, "more"))),
        "another vocabulary",
        "of the training set",
    ),
    (
        (SENTENCES, SENTENCES.rows(IDS[:, :2], Y)),
        r"shape \(2,\), training instances \(3,\)",
        "by padding",
    ),
    (
        (TABLE, Dataset(X.flatten(1)[:, :2], Y, 3, columns=("b", "a"))),
        "columns of the test set are not those",
        "in the same order",
    ),
    (
        (Dataset(X - 4, Y, 3, "spectrogram"), SOUND),
        "pixels from -4 to .*spectrograms lie in",
        r"least\) / \(largest",
    ),
    (
        ((["a dog", "it"] * 3, Y), TEST),
        "x of the training set holds texts, such as 'a dog'",
        "number the words",
    ),
    ((SOUND, Dataset(X, Y, 3)), "kind image, the training set of kind spec", "kind="),
    (
        (Dataset(2 * X, Y, 3, "spectrogram"), SOUND),
        "pixels from .*spectrograms lie in",
        "divide by",
    ),
    (((IDS, Y), (IDS, Y)), "x of the training set is torch.int64", "vocabulary=words"),
]
WRONG = [  # what the function returns, words of the fault, words of the way out
    (
        ((changed(X, 4, torch.nan), Y), TEST),
        r"training set is not finite in row 4 \(1 of 6",
        "isfinite",
    ),
    (
        ((X, Y), (changed(X[:3], 2, torch.inf), Y[:3])),
        "test set is not finite in row 2",
        "isfinite",
    ),
    (
        ((changed(X.flatten(1), 1, -torch.inf), Y), (X[:3].flatten(1), Y[:3])),
        "row 1",
        "isfinite",
    ),
    (
        ((X * 255, Y), TEST),
        "pixels from .* to 25[45].*images lie in",
        "^divide by 255$",
    ),
    (((X * 65535, Y), TEST), "training set has pixels", "^divide by 65535$"),
    (((changed(X * 16, 0, 16), Y), TEST), "training set has pixels", "^divide by 16$"),
    (((X, Y), (X[:3] * 255, Y[:3])), "test set has pixels", "divide by 255"),
    (
        ((NORMALISED, Y), TEST),
        "training set has pixels from -",
        r"\(0.2470, 0.2435, 0.2616\)",
    ),
    (
        ((NORMALISED, Y), TEST),
        "training set has pixels from -",
        r"mean \(0.4914, 0.4822, 0.4465\)",
    ),
    (((changed(2 * X - 1, 0, -1.0), Y), TEST), "pixels from -1 to", "deviation .*mean"),
    (((changed(X, 0, 1.001), Y), TEST), "pixels from .* to 1.001", "clamp"),
    (((changed(X, 0, -0.001), Y), TEST), "pixels from -0.001", "clamp"),
    (
        ((HWC, Y), (HWC[:3], Y[:3])),
        r"\(8, 8, 3\).*looks like height",
        r"permute\(0, 3, 1, 2\)",
    ),
    (
        ((HWC.numpy(), Y), (HWC[:3].numpy(), Y[:3])),
        "looks like height",
        r"transpose\(0, 3, 1, 2\)",
    ),
    (((X, Y + 1), (X[:3], Y[:3] + 1)), "labels are 1, 2, 3", "^subtract 1: y - 1"),
    ((Dataset(X, Y + 1, 3), PLAIN[1]), "label 3 in row 2.*from 1 to 3", "subtract 1"),
    (
        (Dataset(X, Y - 1, 3), PLAIN[1]),
        "label -1 in row 0.*2 of 6 rows",
        "return_inverse",
    ),
    (((X, 5 * Y), (X[:3], 5 * Y[:3])), "labels are 0, 5, 10", "return_inverse"),
    (
        ((X, Y), (X[:3], Y[:3] + 1000)),
        r"labels are 0, 1, 2, 1000",
        "Dataset\\(x, y, classes\\)",
    ),
    (
        ((X, NAMES), (X[:3], NAMES[:3])),
        "y of the training set holds texts, such as 'cat'",
        "inverse",
    ),
    (
        ((X, Y), (X[:3], NAMES[:3].tolist())),
        "y of the test set holds texts",
        "return_inverse",
    ),
    (((X, Y.float()), TEST), "y of the training set is torch.float32", r"y\.long\(\)"),
    (((X, torch.eye(3)[Y]), TEST), r"y of .* has shape \(6, 3\)", r"y\.argmax\(1\)"),
    (((X, Y[:, None]), TEST), r"y of .* has shape \(6, 1\)", r"reshape\(-1\)"),
    (
        ((X.flatten(1).byte(), Y), TEST),
        "x of the training set is torch.uint8",
        r"x\.float\(\)",
    ),
    (((BYTES[:, 0], Y), TEST), r"uint8 of shape \(6, 8, 8\)", r"x\[:, None\]"),
    (
        ((BYTES.long(), Y), TEST),
        "x of the training set is torch.int64",
        "the value of white",
    ),
    (((X > 0.5, Y), TEST), "x of the training set is torch.bool", r"x\.float\(\)"),
    (
        ((X.numpy() + 1j, Y), TEST),
        "x of the training set is .* of type complex",
        "give numbers",
    ),
    (
        ((X, Y), (X[:3].double(), Y[:3])),
        "float64 in the test set and torch.float32",
        "convert both",
    ),
    (
        ((X, Y), (X[:3, :, :7], Y[:3])),
        r"test instances have shape \(3, 7, 8\)",
        "resizing",
    ),
    (
        (PLAIN[0], Dataset(X[:3], Y[:3], 4)),
        "test set has 4 classes, the training set 3",
        "same",
    ),
    (((X, Y[:5]), TEST), "x has 6 rows, y has 5", "one label per instance"),
    (((X[:, 0, 0, 0], Y), TEST), "got shape", "one row per instance"),
    (((X[:0], Y[:0]), TEST), "training set has no rows", "at least one"),
    ((PLAIN[0], PLAIN[1].take(Y[:0])), "test set has no rows", "at least one"),
    ((Rows([]), Rows([])), "training set has no rows", "at least one"),
    (((X, Y * 0), (X[:3], Y[:3] * 0)), "one class alone", "two classes"),
    (((X[:, :, :0], Y), (X[:3, :, :0], Y[:3])), "without a value", "give each"),
    (
        (X, Y),
        r"training set is Tensor of shape \(6, 3, 8, 8\)",
        r"return \(train, test\)",
    ),
    (
        (X, Y, X[:3], Y[:3]),
        r"a tuple of 4 \(Tensor, Tensor, Tensor, Tensor\)",
        "return",
    ),
    (TensorDataset(X, Y), "it gave TensorDataset, not a pair", "return"),
    (None, "it gave NoneType, not a pair", "return"),
    (((X, Y, Y), TEST), r"training set is a tuple of 3", "return"),
    ((Endless(), Endless()), "Endless without a length", "read it"),
    ((Augmented(), TEST), "row 0 of the training set is another one", "augmentation"),
    (((X, Y), Augmented(True)), "row 0 of the test set is another", "evaluation"),
    (((X.flatten(1).to_sparse(), Y), TEST), "training set is of layout", "to_dense"),
    ((Rows([{"x": X[0]}]), TEST), "row 0 of the training set is dict", "return"),
    (
        (Rows([(X[0], 0), (X[1, :, :7], 1)]), TEST),
        "row 1 .* shape .* row 0",
        "one shape",
    ),
    ((([[0.1, 0.2], [0.3]], [0, 1]), TEST), "no array of one shape", "bring all rows"),
    (lambda size: PLAIN, "must be called with size", "give the others a default"),
    (lambda a, b, c: PLAIN, "must be called with a, b, c", "give the others a default"),
    (lambda: 1 / 0, "raised ZeroDivisionError: division by zero", "--debug"),
    (lambda: Dataset(X, Y.float(), 3), "y must be a vector of int64", "one label"),
]


@pytest.mark.parametrize(("found", "fault", "way"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_data_set_is_blamed_by_name_with_the_way_out(
    found, fault: str, way: str, own
):
    with pytest.raises(DataError, match=fault) as caught:
        own(found)
    assert caught.value.message.startswith("data set 'own_data:make': ")
    assert re.search(way, caught.value.hint), caught.value.hint


@pytest.mark.parametrize(("found", "fault", "way"), WRONG_KINDS)
def test_data_that_break_a_rule_of_their_kind_are_refused_with_the_way_out(
    found, fault: str, way: str, own
):
    with pytest.raises(DataError, match=fault) as caught:
        own(found)
    assert re.search(way, caught.value.hint), caught.value.hint


@pytest.mark.parametrize("data", [SENTENCES, SOUND], ids=["tokens", "spectrogram"])
def test_data_of_a_kind_come_back_as_they_are(data: Dataset, own):
    train, test = own((data, data.take(Y == 0)))
    assert (train.kind, train.vocabulary) == (data.kind, data.vocabulary)
    assert torch.equal(train.x, data.x)
    assert len(test) == int((Y == 0).sum())


def test_vectors_keep_their_range_whatever_their_shape(own):
    wide = Dataset(9 * X, Y, 3, "vector")
    train, _ = own((wide, wide))
    assert float(train.x.max()) > 1


def test_a_value_in_place_of_a_function_is_refused(monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("own_data")
    module.make = (PLAIN, PLAIN)
    monkeypatch.setitem(sys.modules, "own_data", module)
    with pytest.raises(DataError, match="it is a tuple, no function"):
        load("own_data:make")


def test_the_constants_that_undo_a_normalisation_undo_it():
    x = torch.cat([X, torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)])
    with pytest.raises(DataError) as caught:
        check_values(Dataset((x - MEAN) / DEVIATION, torch.zeros(8).long(), 3), "it")
    told = [
        torch.tensor([float(value) for value in found.split(", ")]).view(3, 1, 1)
        for found in re.findall(r"\(([-0-9., ]+)\)", caught.value.hint)
    ]
    deviation, mean = told
    assert torch.allclose((x - MEAN) / DEVIATION * deviation + mean, x, atol=1e-3)


def levenshtein(one: list[int], other: list[int]) -> int:
    """The distance of two sentences, by the plain recursion."""
    if not one or not other:
        return len(one) + len(other)
    replaced = levenshtein(one[1:], other[1:]) + (one[0] != other[0])
    return min(
        replaced, levenshtein(one[1:], other) + 1, levenshtein(one, other[1:]) + 1
    )


def test_edits_are_the_distance_of_levenshtein_and_padding_is_no_word():
    g = generator(0, "edits")
    pair = torch.randint(1, 4, (2, 150, 5), generator=g)
    lengths = torch.randint(0, 6, (2, 150, 1), generator=g)
    one, other = pair.masked_fill(torch.arange(5) >= lengths, PAD)
    expected = [
        levenshtein([word for word in a if word], [word for word in b if word])
        for a, b in zip(one.tolist(), other.tolist(), strict=True)
    ]
    assert edits(one, other).tolist() == expected
    assert torch.equal(edits(one, other), edits(other, one))
