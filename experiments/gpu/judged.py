"""How the seconds of detectors grow with n, beside those of the influence matrix they read."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from defenses.baselines.strip import Strip
from defenses.detectors.foreign_or_fragile import ForeignOrFragile
from defenses.detectors.rehearsed import Rehearsed
from defenses.detectors.tail_heaviness import TailHeaviness
from estimators.gas import GAS
from experiments.gpu.influence.scores import cost, short_run
from experiments.gpu.record import Found
from experiments.gpu.setting import ROWS, Setting
from poisonbench.contracts.protocols import Detector
from poisonbench.contracts.values import Evidence
from poisonbench.models import predict

SIZES = (ROWS // 4, ROWS)
POINTS = 100
DETECTORS: dict[str, Detector] = {
    "rehearsed, shipped weights": Rehearsed(rehearsals=0),
    "foreign-or-fragile": ForeignOrFragile(),
    "tail-heaviness": TailHeaviness(),
    "strip": Strip(),
}


def judged(setting: Setting, found: Found) -> None:
    """Seconds by number of training rows and detector: a run of the cnn, 5 checkpoints of GAS."""
    sizes: tuple[int, ...] = SIZES
    if setting.small:
        sizes = (24, 32)
    _judge(
        _evidence(setting, sizes[0] // 2, {}), setting, {}
    )  # the first call is dearer
    for n in sizes:
        spent: Found = {}
        found[f"n = {n}"] = spent
        _judge(_evidence(setting, n, spent), setting, spent)


def _evidence(setting: Setting, n: int, spent: Found) -> Evidence:
    """Returns what detectors see, with half of the points trusted."""
    trace = short_run(setting, "cnn", n)
    test = setting.points(POINTS)
    labels = predict(trace.model(), test.x).argmax(1)
    points = test.relabel(labels)
    score = GAS().fit(trace)
    score(points.take(torch.arange(2)))
    cost(setting, spent, "gas", partial(score, points))
    trusted = torch.arange(len(points), device=setting.device) % 4 != 0
    return Evidence(trace=trace, test=points, influence=score(points), trusted=trusted)


def _judge(evidence: Evidence, setting: Setting, spent: Found) -> None:
    for name, detector in DETECTORS.items():
        fresh: Callable[[], object] = partial(detector, replace(evidence))
        cost(setting, spent, name, fresh)
