"""TracIn and GAS on the whole of CIFAR-10, against the floor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from estimators.gas import GAS
from estimators.tracin import TracIn
from experiments.gpu.record import Found
from experiments.gpu.setting import ROWS, Setting
from experiments.scene.cost import measured
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.memory import batches
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

CHECKPOINTS = 5
FLOOR_BATCH = 1024
PRODUCT_BATCH = 256  # of a large model a row is 26 MB
RECIPE = Recipe(
    model="resnet9",
    epochs=1,
    batch_size=512,
    lr=0.01,
    checkpoints=CHECKPOINTS,
    mixed_precision=True,
)


@dataclass(frozen=True)
class Size:
    """What is scored.

    Attributes:
        model: of the recipe.
        points: m.
        checkpoints: K, the last of the run.
        floor: whether the floor is measured beside it.
    """

    model: str
    points: int
    checkpoints: int
    floor: bool = False


def short_run(setting: Setting, model: str, rows: int = ROWS) -> Trace:
    """An epoch in mixed precision: checkpoints to score, not a model to use."""
    recipe = replace(RECIPE, model=setting.model(model))
    if setting.small:
        recipe = replace(recipe, batch_size=8, mixed_precision=False)
    return train(setting.rows(rows), recipe, 0)


def tracin(size: Size, setting: Setting, found: Found) -> None:
    """Seconds and memory of TracIn."""
    _scored(TracIn(), size, setting, found)


def gas(size: Size, setting: Setting, found: Found) -> None:
    """Seconds and memory of GAS."""
    _scored(GAS(), size, setting, found)


def _scored(estimator: Estimator, size: Size, setting: Setting, found: Found) -> None:
    trace = short_run(setting, size.model)
    trace = replace(trace, checkpoints=trace.checkpoints[-size.checkpoints :])
    test = setting.points(size.points)
    found["n"] = len(trace.train)
    found["m"] = len(test)
    found["checkpoints"] = size.checkpoints
    few = setting.points(2)
    warm = replace(trace, train=setting.rows(FLOOR_BATCH))
    estimator.fit(warm)(few)
    cost(setting, found, "scores", lambda: estimator.fit(trace)(test))
    if size.floor:
        floor(trace, test, setting, found)


def cost(setting: Setting, found: Found, name: str, run: Callable[[], object]) -> float:
    """Keeps the seconds of a call and the peak of memory above what was there before it."""
    with measured(setting.device) as spent:
        run()
    found[f"{name}, s"] = round(spent.seconds, 4)
    found[f"{name}, peak MiB"] = spent.peak_bytes >> 20
    return spent.seconds


def floor(trace: Trace, test: Dataset, setting: Setting, found: Found) -> None:
    """A forward and backward pass over all instances at each checkpoint, and the product alone."""
    models = [trace.model(k) for k in range(len(trace.checkpoints))]
    passed = partial(_passes, models, [trace.train, test])
    took = cost(setting, found, "floor: passes", passed)
    size = sum(p.numel() for p in models[0].parameters())
    multiplied = partial(_product, len(models), size, trace.train, test)
    took += cost(setting, found, "floor: product", multiplied)
    scored = found["scores, s"]
    assert isinstance(scored, float)
    found["x floor"] = round(scored / took, 3)


def _passes(models: list[nn.Module], parts: list[Dataset]) -> None:
    with exact_arithmetic():
        for model in models:
            for data in parts:
                for batch in batches(data, FLOOR_BATCH):
                    model.zero_grad()
                    loss = F.cross_entropy(model(batch.x), batch.y, reduction="sum")
                    loss.backward()


def _product(times: int, size: int, train: Dataset, test: Dataset) -> None:
    """The product of (m, p) and (p, n), a batch at a time; the entries are all the same."""
    rows = torch.ones(PRODUCT_BATCH, size, device=train.x.device)
    columns = torch.ones(size, len(test), device=train.x.device)
    with exact_arithmetic():
        for _ in range(times * -(-len(train) // PRODUCT_BATCH)):
            rows @ columns
