"""Screened influence against the exact: seconds of a batch, and recall of the ten largest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.gas import GAS
from estimators.kit.checkpoints import checkpoint_sum
from estimators.screening.screened import Exact, Screened
from estimators.tracin import TracIn
from experiments.bench.screening.setting import (
    TOP,
    Setting,
    kept_alone,
    recall,
)
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.gradients import Form, dot_products
from poisonbench.notes import collecting

KEPT = (20, 100, 500)  # rows that a cheap screen keeps for a point
FEW = 3  # batches that are timed of what is fast


@dataclass(frozen=True, eq=False)
class Entry:
    """What one way of screening costs and finds.

    Attributes:
        of: "gas" or "tracin".
        way: of screening, in words.
        fit: seconds before the first point.
        seconds: size of a batch -> seconds of a batch.
        rows: computed for a point, on the mean.
        recall: (m,), share of the ten largest that are found.
        complete: share of the points for which every row within the bounds was computed.
    """

    of: str
    way: str
    fit: float
    seconds: dict[int, float]
    rows: float
    recall: Tensor
    complete: float


@dataclass(frozen=True, eq=False)
class Reference:
    """The exact scores, and what they cost.

    Attributes:
        of: "gas" or "tracin".
        scores: (m, n).
        seconds: size of a batch -> seconds of a batch.
    """

    of: str
    scores: Tensor
    seconds: dict[int, float]


def reference(setting: Setting, of: Exact, sizes: Sequence[int]) -> Reference:
    """Scores all rows exactly.

    Args:
        setting: the run and m points.
        of: "gas" or "tracin".
        sizes: of batches, the last of which is m.
    """
    scorer = Screened(of).exact.fit(setting.trace)
    seconds = {size: setting.of_batch(scorer, size) for size in sizes[:-1]}
    scores = []
    seconds[sizes[-1]] = setting.seconds(lambda: scores.append(scorer(setting.test)))
    return Reference(of, scores[0], seconds)


def by_projection(
    setting: Setting,
    exact: Reference,
    dimensions: int,
    widths: Sequence[float],
    sizes: Sequence[int],
) -> list[Entry]:
    """Returns an entry for each width of the bounds, which share the projected gradients."""
    of: Exact = "gas" if exact.of == "gas" else "tracin"
    first = Screened(of, TOP, dimensions)
    screens = []
    fit = setting.seconds(lambda: screens.append(first.screen(setting.trace)))
    entries = []
    for width in widths:
        estimator = Screened(of, TOP, dimensions, width)
        scorer = estimator.scorer(setting.trace, screens[0])
        with collecting() as told:
            scores = scorer(setting.test)
        entry = Entry(
            of=of,
            way=f"projection on {dimensions}, width {width:g}",
            fit=fit,
            seconds={size: setting.of_batch(scorer, size, FEW) for size in sizes},
            rows=float(told.figures["screened_rows"]),
            recall=recall(scores, exact.scores),
            complete=float(told.figures["screened_complete"]),
        )
        entries.append(entry)
    return entries


def by_cheaper_scores(
    setting: Setting, exact: Reference, sizes: Sequence[int]
) -> list[Entry]:
    """Returns entries for screens without projection, which keep a fixed number of rows."""
    renormalised = exact.of == "gas"
    last = TracIn(layers="last", renormalize=renormalised).fit(setting.trace)
    screens = {
        "last layer": last,
        "first checkpoint": _one_checkpoint(setting, renormalised, 0),
    }
    entries = []
    for way, screen in screens.items():
        cheap = screen(setting.test)
        before = {size: setting.of_batch(screen, size) for size in sizes}
        for count in KEPT:
            rows = cheap.topk(min(count, cheap.shape[1])).indices
            entry = Entry(
                of=exact.of,
                way=f"{way}, {count} rows",
                fit=0.0,
                seconds=_with_exact(setting, exact.of, rows, before),
                rows=count,
                recall=recall(kept_alone(exact.scores, rows), exact.scores),
                complete=torch.nan,
            )
            entries.append(entry)
    return entries


def _with_exact(
    setting: Setting, of: str, rows: Tensor, before: dict[int, float]
) -> dict[int, float]:
    """Returns the seconds of a screen and of the rows that it keeps, by size of a batch.

    Args:
        setting: the run and m points.
        of: "gas" or "tracin".
        rows: (m, s) int64, those that it keeps.
        before: seconds of the screen.
    """
    form = (GAS() if of == "gas" else TracIn()).form(setting.trace)
    seconds = {}
    for size, screened in before.items():
        asked = rows[:size].unique()

        def score(test: Dataset, asked: Tensor = asked) -> Tensor:
            return checkpoint_sum(setting.trace, test, form, rows=asked)

        seconds[size] = screened + setting.of_batch(score, size)
    return seconds


def _one_checkpoint(setting: Setting, renormalised: bool, k: int) -> Scorer:
    """Returns the scorer of the products at one checkpoint."""
    trace = setting.trace
    form = Form.of(trace.loss, "all" if renormalised else "none")

    def score(test: Dataset) -> Tensor:
        return dot_products(trace.model(k), trace.train, test, form)

    return score
