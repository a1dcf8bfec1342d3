"""The victims' curves: mean training loss of every epoch, a small chart for each scene."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.kinds.points import is_audit
from experiments.evaluation.load import Results
from experiments.evaluation.metrics import Array, Metric
from experiments.evaluation.names import RowNames, natural
from experiments.evaluation.rows import Row
from poisonbench import log
from poisonbench.errors import LogError
from poisonbench.log import Record, names

MOST = 60  # charts
MOST_POINTS = 200  # of a chart
WIDTH = 200.0
HEIGHT = 70.0
LEAST = 1e-6  # a loss below this is drawn there
GREATEST = 1e9


@dataclass(frozen=True)
class Chart:
    """The curve of one victim.

    Attributes:
        title: attack and seed.
        lines: points "x,y x,y ..." of every stretch of finite losses.
        told: last loss, accuracy and attack success, in words.
    """

    title: str
    lines: tuple[str, ...]
    told: str


@dataclass(frozen=True)
class Charts:
    """The curves of a run, on one logarithmic axis and one axis of epochs.

    Attributes:
        charts: one for each victim.
        ticks: height and label of each power of ten.
        epochs: of the longest curve.
        left_out: victims whose curve is not drawn.
    """

    charts: tuple[Chart, ...]
    ticks: tuple[tuple[float, str], ...] = ()
    epochs: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Axes:
    """Both axes: powers of ten from the lower to the upper end, and epochs."""

    low: int
    high: int
    epochs: int

    def x(self, epoch: int) -> float:
        """Returns the place of an epoch, counted from 0."""
        return WIDTH * epoch / max(1, self.epochs - 1)

    def y(self, power: float) -> float:
        """Returns the height of a power of ten, measured from above."""
        return HEIGHT * (self.high - power) / (self.high - self.low)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Height and label of each power of ten."""
        powers = range(self.low, self.high + 1)
        return tuple((round(self.y(power), 1), f"{10.0**power:g}") for power in powers)


def loss_charts(results: Results, victims: Sequence[Row], most: int = MOST) -> Charts:
    """Returns the curves of the first `most` victims whose logs hold losses, by attack and seed.

    Args:
        results: of a run.
        victims: the rows of its single scenes, in the order of their logs.
        most: charts.
    """
    titles = RowNames.of(victims)
    records = [record for record in results.of("scene") if not is_audit(record)]
    cells = list(zip(records, victims, strict=False))
    cells.sort(key=lambda cell: (natural(titles.attack(cell[1])), cell[1].seeds))
    found: list[tuple[Row, Array]] = []
    for record, row in cells[:most]:
        losses = _losses(record)
        if losses is not None:
            found.append((row, losses))
    left_out = max(0, len(records) - most)
    axes = _axes([losses for _, losses in found])
    if axes is None:
        return Charts((), left_out=left_out)
    charts = []
    for row, losses in found:
        title = f"{titles.attack(row)}, seed {row.seeds[0]}"
        charts.append(Chart(title, tuple(_lines(losses, axes)), _told(row, losses)))
    return Charts(tuple(charts), axes.ticks, axes.epochs, left_out)


def _losses(record: Record) -> Array | None:
    """The losses (e,) of a scene; None where its log holds none."""
    try:
        found = log.read(record.path, "scene", keys=(names.VICTIM_LOSSES,))
    except LogError:  # trained by a loop that tells none; damage is listed elsewhere
        return None
    losses = found.data[names.VICTIM_LOSSES]
    if losses.ndim != 1 or not losses.size or losses.dtype.kind != "f":
        return None
    return losses.astype(np.float64)


def _axes(curves: Sequence[Array]) -> Axes | None:
    """The axes on which all curves have room; None where nothing can be drawn."""
    if not curves:
        return None
    values = np.concatenate(curves)
    values = values[np.isfinite(values)].clip(LEAST, GREATEST)
    if not values.size:
        return None
    low = math.floor(math.log10(values.min()))
    high = math.ceil(math.log10(values.max()))
    epochs = max(len(losses) for losses in curves)
    return Axes(low, max(high, low + 1), epochs)


def _lines(losses: Array, axes: Axes) -> Iterator[str]:
    """The stretches of finite losses, of at most about `MOST_POINTS` points."""
    step = math.ceil(len(losses) / MOST_POINTS)
    points: list[str] = []
    for epoch in range(0, len(losses), step):
        loss = float(losses[epoch])
        if math.isfinite(loss):
            power = math.log10(min(max(loss, LEAST), GREATEST))
            points.append(f"{axes.x(epoch):.1f},{axes.y(power):.1f}")
        elif points:
            yield " ".join(points)
            points = []
    if points:
        yield " ".join(points)


def _told(row: Row, losses: Array) -> str:
    told = [f"loss {losses[-1]:.3g} after {len(losses)} epochs"]
    for key, noun in (("clean_accuracy", "accuracy"), ("asr", "success")):
        metric: Metric = row.metrics[key]
        if metric.value is not None:
            told.append(f"{noun} {metric.value:.3f}")
    return ", ".join(told)
