"""Adult (Becker, Kohavi 1996, UCI): does a person of the US census of 1994 earn above $50,000?

Vectors of 108 features: six numbers, standardised by the training rows, and eight categories,
one-hot. A value that is not known ("?") is a category of its own.
"""

from pathlib import Path

import torch
from torch import Tensor

from poisonbench.data.built_in.published import Published
from poisonbench.data.dataset import Dataset
from poisonbench.seeding import generator

FILE = Published(
    "adult/adult.data",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
    "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
)
COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
)
NUMBERS = (
    "age",
    "fnlwgt",
    "education-num",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
)
TEST_SHARE = 5  # one row in five is a test row; the file does not fix it


def adult(root: Path, download: bool) -> tuple[Dataset, Dataset]:
    """People of the US census of 1994, 26,049 and 6,512 vectors of 108: income > $50,000."""
    lines = FILE.read(root, download).decode("ascii").split("\n")
    rows = [line.split(", ") for line in lines if line]
    order = torch.randperm(len(rows), generator=generator(0, "adult"))
    held_out = len(rows) // TEST_SHARE
    is_train = torch.ones(len(rows), dtype=torch.bool)
    is_train[order[:held_out]] = False
    x, names = _features(rows, is_train)
    y = torch.tensor([int(row[-1] == ">50K") for row in rows])
    full = Dataset(x, y, 2, "vector", columns=names)
    return full.take(is_train), full.take(~is_train)


def _features(
    rows: list[list[str]], is_train: Tensor
) -> tuple[Tensor, tuple[str, ...]]:
    """Returns the features of all rows, (n, 108) float32, and their names."""
    parts: list[Tensor] = []
    names: list[str] = []
    for place, column in enumerate(COLUMNS):
        texts = [row[place] for row in rows]
        if column in NUMBERS:
            parts.append(_standardised(texts, is_train))
            names.append(column)
            continue
        kinds = sorted(set(texts))
        parts.append(_one_hot(texts, kinds))
        names.extend(f"{column}={kind}" for kind in kinds)
    return torch.cat(parts, 1).float(), tuple(names)


def _standardised(texts: list[str], is_train: Tensor) -> Tensor:
    """Returns numbers as a column, (n, 1) float64, of mean 0 and deviation 1 on training rows."""
    values = torch.tensor([float(text) for text in texts], dtype=torch.float64)
    known = values[is_train]
    scaled = (values - known.mean()) / known.std()
    return scaled.unsqueeze(1)


def _one_hot(texts: list[str], kinds: list[str]) -> Tensor:
    """Returns one column for each kind, (n, kinds) float64."""
    place = {kind: index for index, kind in enumerate(kinds)}
    index = torch.tensor([place[text] for text in texts])
    return torch.nn.functional.one_hot(index, len(kinds)).double()
