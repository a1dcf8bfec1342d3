"""What a cleaning came to, from its logs alone: accuracy by share removed, and what was found.

The share of a criterion is chosen by the held-out points; accuracy is of the test points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.cleaning.found import Found, found_by, mean_of, planted_rows
from experiments.evaluation.intervals import (
    Measured,
    rate_measured,
)
from experiments.evaluation.metrics import Array, Metric
from poisonbench import log
from poisonbench.log import Record, names

FLOOR = "random-filter"


@dataclass(frozen=True, eq=False)
class Curve:
    """What the removal by one criterion did, over the seeds.

    Attributes:
        criterion: its name.
        accuracy: of the test points, at each share.
        gain: how far it is above that of random removal of as many rows, at each share.
        held_out: accuracy of the held-out points at each share.
        found: of planted noise.
    """

    criterion: str
    accuracy: tuple[Metric, ...]
    gain: tuple[Metric, ...]
    held_out: tuple[float, ...]
    found: Found

    @property
    def chosen(self) -> int:
        """Which share has the highest accuracy of the held-out points, the smallest of several."""
        return int(np.argmax(self.held_out))


@dataclass(frozen=True, eq=False)
class Outcome:
    """The curves of one kind of noise.

    Attributes:
        noise: in words.
        shares: of the rows removed.
        planted: rows with planted noise, of all seeds.
        rows: training rows, of all seeds.
        seeds: the seeds.
        curves: of the criteria.
    """

    noise: str
    shares: tuple[float, ...]
    planted: int
    rows: int
    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]


def outcomes(paths: Sequence[Path]) -> list[Outcome]:
    """Returns the outcome of each kind of noise, in the order of the logs.

    Raises:
        LogError: a log cannot be read.
    """
    by_noise: dict[str, list[Record]] = {}
    for path in paths:
        record = log.read(path, "clean")
        noise = record.config["noise"]
        cells = by_noise.setdefault(noise["label"], [])
        cells.append(record)
    return [_outcome(noise, cells) for noise, cells in by_noise.items()]


def warnings_of(paths: Sequence[Path]) -> list[str]:
    """Returns what was warned of while the logs were made, each once.

    Raises:
        LogError: a log cannot be read.
    """
    told: dict[str, None] = {}
    for path in paths:
        record = log.read(path, "clean", keys=())
        text = str(record.attributes.get("warnings", ""))
        told |= dict.fromkeys(text.splitlines())
        lost = record.attributes.get("diverged", 0)
        if lost:
            line = f"{path.name}: {lost} trainings diverged and count as wrong"
            told[line] = None
    return list(told)


def labels_of(record: Record) -> list[str]:
    """Returns the names of the criteria of a log."""
    return [criterion["label"] for criterion in record.config["criteria"]]


def _outcome(noise: str, cells: list[Record]) -> Outcome:
    first = cells[0]
    labels = labels_of(first)
    floor = labels.index(FLOOR)
    curves = []
    for number, label in enumerate(labels):
        curve = _curve(
            label,
            cells,
            number,
            floor,
        )
        curves.append(curve)
    planted = 0
    rows = 0
    for cell in cells:
        wrong = planted_rows(cell)
        planted += int(wrong.sum())
        rows += len(wrong)
    return Outcome(
        noise=noise,
        shares=tuple(first.config["remove"]),
        planted=planted,
        rows=rows,
        seeds=tuple(cell.config["seed"] for cell in cells),
        curves=tuple(curves),
    )


def _curve(
    label: str,
    cells: list[Record],
    number: int,
    floor: int,
) -> Curve:
    """The curve of the criterion of that number, against that of the floor."""
    right = [_of_points(cell, names.RIGHT_TEST) for cell in cells]
    accuracy = []
    gain = []
    for share in range(right[0].shape[1]):
        own = [points[number, share] for points in right]
        other = [points[floor, share] for points in right]
        accuracy.append(accuracy_of(own))
        gain.append(difference_of(own, other))
    held_out = []
    for cell in cells:
        points = _of_points(cell, names.RIGHT_HELD_OUT)
        of_shares = points[number].mean(1)
        held_out.append(of_shares)
    means = np.mean(held_out, axis=0)
    return Curve(
        criterion=label,
        accuracy=tuple(accuracy),
        gain=tuple(gain),
        held_out=tuple(means.tolist()),
        found=found_by(cells, number),
    )


def _of_points(cell: Record, name: str) -> Array:
    """How often each point is predicted rightly, (q, k, points): the mean over trainings."""
    means: Array = cell.data[name].mean(axis=2)
    return means


def accuracy_of(right: Sequence[Array]) -> Metric:
    """Returns the mean over seeds, with its interval over points and seeds.

    Args:
        right: for each seed (points,), how often each is predicted rightly.
    """
    scenes = []
    for one in right:
        rate = float(one.mean())
        scenes.append(rate_measured(rate, len(one)))
    return mean_of(scenes)


def difference_of(right: Sequence[Array], other: Sequence[Array]) -> Metric:
    """Returns how far the first accuracy is above the second, paired by point and seed.

    The variance is that of two more points on which they differ, one in favour of each, as Bonett
    and Price (2012) have it for rates: sets of rows nearly alike differ on few points, or on none.
    """
    scenes = []
    for one, two in zip(right, other, strict=True):
        apart = one - two
        points = len(apart)
        scene = Measured(
            value=float(apart.mean()),
            variance=_spread(apart) / points + 2 / (points + 2) ** 2,
            points=points,
            signed=True,
        )
        scenes.append(scene)
    return mean_of(scenes)


def _spread(values: Array) -> float:
    """The variance of a sample; 0 of one value."""
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
