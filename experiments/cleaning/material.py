"""The data of a cleaning: the rows that may be removed, and two sets of points that never are."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from experiments.cleaning.apart import check_apart, copies_together
from experiments.cleaning.noise import with_noise
from experiments.plan.cleaning.spec import Cleaning, Noise, Source
from experiments.plan.paths import Place
from experiments.plan.tables.data import DataSpec
from experiments.scene.sources import read_data
from poisonbench.data import Dataset, load, subset
from poisonbench.data.classes import of_classes
from poisonbench.data.convert import as_pair
from poisonbench.data.dataset import stratified
from poisonbench.data.judge import check_pair, check_values
from poisonbench.data.points import as_points
from poisonbench.errors import DataError
from poisonbench.poison_file import fingerprint
from poisonbench.seeding import derive


@dataclass(frozen=True, eq=False)
class Parts:
    """What a cleaning has read.

    Attributes:
        train: the training set.
        test: the points on which accuracy is reported.
        held_out: the points by which rows are chosen; None: they are drawn from the training set.
    """

    train: Dataset
    test: Dataset
    held_out: Dataset | None

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of each part."""
        told = {
            "train": fingerprint(self.train),
            "test": fingerprint(self.test),
        }
        if self.held_out is not None:
            told["held_out"] = fingerprint(self.held_out)
        return told


@dataclass(frozen=True, eq=False)
class Material:
    """The data of one seed and one kind of noise, on their device.

    Attributes:
        train: n rows, with the labels that are trained on.
        given: (n,) int64 on the CPU, the labels that the data have.
        row: (n,) int64 on the CPU, the row of each in the training set that was given.
        held_out: h points by which rows are chosen, with the labels that they choose by.
        test: m0 points on which accuracy is reported.
    """

    train: Dataset
    given: Tensor
    row: Tensor
    held_out: Dataset
    test: Dataset

    @property
    def planted(self) -> Tensor:
        """(n,) bool on the CPU, the rows with planted noise."""
        labels = self.train.y.cpu()
        return labels != self.given


def read_parts(source: Source, place: Place) -> Parts:
    """Reads and judges the data of a cleaning.

    Raises:
        DataError: they cannot be read or do not fit, or a part is of another's instances.
    """
    if source.dataset is not None:
        train, test = _named(source.dataset, place)
    else:
        found = read_data(str(source.train), "the training set", labelled=True)
        points = read_data(str(source.test), "the test set", labelled=True)
        train, test = as_pair((found, points))
        check_pair(train, test)
    held_out = None
    if isinstance(source.held_out, str):
        held_out = _held_out(source.held_out, train)
    if source.dataset is None or held_out is not None:
        check_apart(train, test, held_out)
    return Parts(train, test, held_out)


def _named(spec: DataSpec, place: Place) -> tuple[Dataset, Dataset]:
    """Training and test set of a data set, of the classes that are kept."""
    train, test = load(
        spec.name,
        place.root,
        place.download,
    )
    if not spec.classes:
        return train, test
    return (
        of_classes(train, spec.name, spec.classes),
        of_classes(test, spec.name, spec.classes),
    )


def _held_out(name: str, train: Dataset) -> Dataset:
    what = "the held-out points"
    found = read_data(name, what)
    points = as_points(found, train, what)
    if not points.labelled:
        raise DataError(f"{what}: {name} has no labels", "give x and y")
    data = replace(points.data, classes=train.classes)
    if not len(data) or data.layout != train.layout:
        told = f"{what} must be instances as the training set, {train.layout}"
        raise DataError(f"{told}, got {len(data)} of {data.layout}")
    check_values(data, what)
    return data


def material_of(
    cleaning: Cleaning,
    parts: Parts,
    noise: Noise,
    seed: int,
    device: str,
) -> Material:
    """Returns the data of a seed: rows drawn, held-out points set apart, noise planted.

    Held-out points keep their labels unless the noise is to reach them.

    Raises:
        DataError: fewer rows than are asked for.
    """
    train = parts.train
    test = parts.test
    row = torch.arange(len(train))
    spec = cleaning.source.dataset
    if spec is not None and spec.train is not None:
        draw = derive(seed, "rows", "train")
        row = stratified(train, spec.train, draw)
    if spec is not None and spec.test is not None:
        draw = derive(seed, "rows", "test")
        test = subset(test, spec.test, draw)
    held_out = parts.held_out
    if held_out is None:
        share = cleaning.source.held_out
        assert not isinstance(share, str)
        drawn = train.take(row)
        apart = set_apart(drawn, share, seed)
        held_out = drawn.take(apart)
        row = row[~apart]
    if noise.held_out:
        wrong = with_noise(
            held_out.y.cpu(),
            train.classes,
            noise,
            seed=derive(seed, "held-out", "noise"),
            pairs=seed,
        )
        held_out = held_out.relabel(wrong)
    kept = train.take(row)
    given = kept.y.cpu()
    labels = with_noise(
        given,
        train.classes,
        noise,
        seed=seed,
        pairs=seed,
    )
    noisy = kept.relabel(labels)
    return Material(
        train=noisy.to(device),
        given=given,
        row=row,
        held_out=held_out.to(device),
        test=test.to(device),
    )


def set_apart(data: Dataset, share: float, seed: int) -> Tensor:
    """Returns the rows that are held out, (n,) bool, drawn with the labels in proportion.

    Copies of an instance are all held out, or none: a copy in training would be no unseen point.

    Raises:
        DataError: too few rows.
    """
    n = len(data)
    size = round(share * n)
    if not 0 < size < n - 1:
        told = f"held_out = {share:g} sets {size} of {n} rows apart"
        raise DataError(told, "leave one at least, and two to train on")
    draw = derive(seed, "held-out")
    rows = stratified(data, size, draw)
    apart = torch.zeros(n, dtype=torch.bool)
    apart[rows] = True
    apart = copies_together(data, apart)
    held = int(apart.sum())
    if not 0 < held < n - 1:
        told = f"{n} rows with copies among them cannot be set apart: {held} would be held out"
        raise DataError(
            told, "give held-out points of their own: held_out = 'FILE.npz'"
        )
    return apart
