"""The parts of the check: the measurements of each, dearest questions first."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from experiments.gpu.beside_peers import beside_peers
from experiments.gpu.bulk import bulk
from experiments.gpu.judged import judged
from experiments.gpu.record import Found
from experiments.gpu.reference import reference
from experiments.gpu.scores import Size, gas, tracin
from experiments.gpu.setting import Setting
from experiments.gpu.solved import solved
from experiments.gpu.steps import profile, step_times
from experiments.gpu.suite import suite


@dataclass(frozen=True)
class Measurement:
    """A measurement of a part.

    Attributes:
        name: in the record.
        seconds: after which it is cut off; what it has found by then is kept.
        take: fills what it finds.
    """

    name: str
    seconds: float
    take: Callable[[Setting, Found], None]


TESTS = 200.0  # seconds
GRID = 200.0
ENDING = 30.0  # in which an interrupted grid ends and is evaluated
WORKERS = 4
LARGE = Size("resnet9", 1000, 5)
PARTS: dict[str, tuple[Measurement, ...]] = {
    "reference": (
        Measurement(
            "grid gpu-cifar10", GRID + ENDING, partial(reference, GRID, WORKERS)
        ),
    ),
    "tests": (Measurement("gpu tests", TESTS, partial(suite, TESTS - 5)),),
    "bench": (
        Measurement("training steps", 30, step_times),
        Measurement("profile", 10, profile),
        Measurement("bulk, cnn", 15, partial(bulk, "cnn", 5000, 64)),
        Measurement(
            "tracin, resnet9", 60, partial(tracin, Size("resnet9", 1000, 1, True))
        ),
        Measurement("bulk, resnet9", 20, partial(bulk, "resnet9", 5000, 4)),
        Measurement("tracin, cnn", 15, partial(tracin, Size("cnn", 100, 1, True))),
        Measurement("gas, cnn", 15, partial(gas, Size("cnn", 1000, 5, True))),
        Measurement("peers, conv3", 30, partial(beside_peers, "conv3", 5000, 100, 2)),
        Measurement("peers, resnet", 30, partial(beside_peers, "resnet", 5000, 100, 2)),
        Measurement("solvers, cnn", 40, solved),
        Measurement("detectors", 40, judged),
        Measurement("tracin, resnet9, 5 checkpoints", 120, partial(tracin, LARGE)),
        Measurement("gas, resnet9, 5 checkpoints", 120, partial(gas, LARGE)),
    ),
}
