"""The ten most influential rows of a point on the whole of CIFAR-10: screened against all rows."""

from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from estimators.gas import GAS
from estimators.screening.screened import Screened
from experiments.bench.screening.setting import TOP, interval, recall
from experiments.gpu.influence.scores import WARM, cost, short_run
from experiments.gpu.record import Found
from experiments.gpu.setting import Setting
from poisonbench.contracts.protocols import Scorer
from poisonbench.data import Dataset
from poisonbench.models import predict

SIZES = (100, 10, 1)  # points at a time
FEW = 3  # batches of a size, at most
EPOCHS = 4


def screened(
    model: str, precision: Literal["full", "tf32"], setting: Setting, found: Found
) -> None:
    """Seconds of GAS for all rows and for the screened ones, and the recall, by size of a batch.

    At the last checkpoint of a short run, for points at the labels that it predicts.
    """
    trace = short_run(setting, model, epochs=EPOCHS)
    trace = replace(trace, checkpoints=trace.checkpoints[-1:])
    test = setting.points(SIZES[0])
    test = test.relabel(predict(trace.model(), test.x).argmax(1))
    estimator = Screened(precision=precision)
    found["data"] = setting.source
    found["n"] = len(trace.train)
    found["parameters"] = sum(p.numel() for p in trace.model().parameters())
    found["precision"] = precision
    first = replace(trace, train=setting.rows(WARM))
    estimator.fit(first)(test.take(torch.arange(2)))  # the first call is dearer
    kept: list[Scorer] = []
    cost(setting, found, "fit", lambda: kept.append(estimator.fit(trace)))
    exact = GAS(precision=precision).fit(trace)
    for size in SIZES:
        told: Found = {}
        found[f"{min(size, len(test))} at a time"] = told
        _against(exact, kept[0], test, size, setting, told)


def _against(
    exact: Scorer,
    screen: Scorer,
    test: Dataset,
    size: int,
    setting: Setting,
    told: Found,
) -> None:
    """Adds what a few batches of points took, both ways, and what was found of the ten largest."""
    batches = test.take(torch.arange(min(FEW * size, len(test))))
    parts = [batches.take(rows) for rows in torch.arange(len(batches)).split(size)]
    told["batches"] = len(parts)
    told["points"] = len(batches)
    all_rows: list[Tensor] = []
    some: list[Tensor] = []
    slow = cost(setting, told, "all rows", partial(_scored, exact, parts, all_rows))
    fast = cost(setting, told, "screened", partial(_scored, screen, parts, some))
    told["times as fast"] = round(slow / fast, 2)
    scores = torch.cat(some)
    rows = (~scores.isnan()).sum(1)
    told["rows of a point"] = float(rows.double().mean())
    told[f"recall of {TOP}"] = interval(recall(scores, torch.cat(all_rows)))


def _scored(scorer: Scorer, parts: list[Dataset], scores: list[Tensor]) -> None:
    scores.extend(scorer(part) for part in parts)
