"""The parts of the check: the measurements of each, what matters most first."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from experiments.gpu.bulk import bulk
from experiments.gpu.influence.beside_peers import beside_peers
from experiments.gpu.influence.scores import Size, precisions, scores
from experiments.gpu.influence.screened import screened
from experiments.gpu.influence.solved import solved
from experiments.gpu.judged import judged
from experiments.gpu.recipes import recipes
from experiments.gpu.record import Found
from experiments.gpu.reference import reference
from experiments.gpu.setting import Setting
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


WORKERS = 3  # of the grid
GAS_TF32 = Size("gas", "resnet9", 1000, 5, "tf32")
GAS_BF16 = Size("gas", "resnet9", 1000, 5, "bf16")
TRACIN_TF32 = Size("tracin", "resnet9", 1000, 5, "tf32")
TRACIN = Size("tracin", "resnet9", 1000, 1)
CNN = Size("tracin", "cnn", 100, 1)
CNN_GAS = Size("gas", "cnn", 1000, 5)
BENCH = (
    Measurement("gas, resnet9, tf32", 70, partial(scores, GAS_TF32)),
    Measurement("peers, resnet", 40, partial(beside_peers, "resnet", 2000, 50, 2)),
    Measurement("gas, resnet9, bf16", 60, partial(scores, GAS_BF16)),
    Measurement("precisions, resnet9", 25, partial(precisions, "resnet9", 5000, 500)),
    Measurement("training steps", 20, step_times),
    Measurement("tracin, cnn", 10, partial(scores, CNN)),
    Measurement("gas, cnn", 15, partial(scores, CNN_GAS)),
    Measurement("peers, conv3", 25, partial(beside_peers, "conv3", 2000, 50, 2)),
    Measurement("screening, cnn", 20, partial(screened, "cnn", "full")),
    Measurement("screening, resnet9", 40, partial(screened, "resnet9", "tf32")),
    Measurement("bulk, resnet9", 20, partial(bulk, "resnet9", 2500, 4)),
    Measurement("tracin, resnet9, tf32", 60, partial(scores, TRACIN_TF32)),
    Measurement("detectors", 25, judged),
    Measurement("recipes", 150, recipes),
    Measurement("profile", 10, profile),
    Measurement("bulk, cnn", 15, partial(bulk, "cnn", 5000, 64)),
    Measurement("solvers, cnn", 25, solved),
    Measurement("tracin, resnet9", 40, partial(scores, TRACIN)),
)
PARTS: dict[str, tuple[Measurement, ...]] = {
    "reference": (Measurement("gpu-cifar10", 300, partial(reference, WORKERS)),),
    "tests": (Measurement("gpu tests", 200, suite),),
    "bench": BENCH,
}
