"""TracIn and GAS on the whole of CIFAR-10, against the floor, and what TF32 costs them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from estimators.gas import GAS
from estimators.tracin import TracIn
from experiments.gpu.record import Found
from experiments.gpu.setting import ROWS, Setting
from experiments.scene.cost import measured
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.device.precision import Precision, asking
from poisonbench.memory import batches
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

CHECKPOINTS = 5
FLOOR_BATCH = 1024
PRODUCT_BATCH = 256  # of a large model a row is 26 MB
SHARE = 10  # the floor is measured on one training row in so many
METHODS: dict[str, type] = {"tracin": TracIn, "gas": GAS}
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
        method: a key of METHODS.
        model: of the recipe.
        points: m.
        checkpoints: K, the last of the run.
        precision: of the products.
    """

    method: str
    model: str
    points: int
    checkpoints: int
    precision: Precision = "full"


@cache
def short_run(setting: Setting, model: str, rows: int = ROWS, epochs: int = 1) -> Trace:
    """A few epochs in mixed precision: checkpoints to score, not a model to use."""
    recipe = replace(RECIPE, model=setting.model(model), epochs=epochs)
    if setting.small:
        recipe = replace(recipe, batch_size=8, mixed_precision=False)
    return train(setting.rows(rows), recipe, 0)


def scores(size: Size, setting: Setting, found: Found) -> None:
    """Seconds and memory of the scores, and those of the floor."""
    trace = short_run(setting, size.model)
    trace = replace(trace, checkpoints=trace.checkpoints[-size.checkpoints :])
    test = setting.points(size.points)
    found["data"] = setting.source
    found["n"] = len(trace.train)
    found["m"] = len(test)
    found["checkpoints"] = size.checkpoints
    found["precision"] = size.precision
    estimator = METHODS[size.method](precision=size.precision)
    warm = replace(trace, train=setting.rows(FLOOR_BATCH))
    estimator.fit(warm)(setting.points(2))
    took = cost(setting, found, "scores", lambda: estimator.fit(trace)(test))
    with asking(size.precision):
        least = floor(trace, test, setting, found)
    found["x floor"] = round(took / least, 3)


def cost(setting: Setting, found: Found, name: str, run: Callable[[], object]) -> float:
    """Keeps the seconds of a call and the peak of memory above what was there before it."""
    with measured(setting.device) as spent:
        run()
    found[f"{name}, s"] = round(spent.seconds, 4)
    found[f"{name}, peak MiB"] = spent.peak_bytes >> 20
    return spent.seconds


def floor(trace: Trace, test: Dataset, setting: Setting, found: Found) -> float:
    """Returns the seconds of the passes and of the product alone.

    A forward and backward pass over all instances, and the product of (m, p) and (p, n); that of
    the training set from one row in SHARE, at the last checkpoint.
    """
    model = trace.model()
    some = setting.rows(len(trace.train) // SHARE)
    size = sum(p.numel() for p in model.parameters())
    _passes(model, some.take(torch.arange(2)))
    over_test = cost(setting, found, "floor: test", partial(_passes, model, test))
    passes = cost(setting, found, "floor: passes / 10", partial(_passes, model, some))
    multiplied = partial(_product, size, len(some), len(test), setting)
    product = cost(setting, found, "floor: product / 10", multiplied)
    whole = over_test + SHARE * (passes + product)
    return len(trace.checkpoints) * whole


def _passes(model: nn.Module, data: Dataset) -> None:
    with exact_arithmetic():
        for batch in batches(data, FLOOR_BATCH):
            model.zero_grad()
            loss = F.cross_entropy(model(batch.x), batch.y, reduction="sum")
            loss.backward()


def _product(size: int, n: int, m: int, setting: Setting) -> None:
    """The product, some training rows at a time; the entries are all the same."""
    rows = torch.ones(PRODUCT_BATCH, size, device=setting.device)
    columns = torch.ones(size, m, device=setting.device)
    with exact_arithmetic():
        for start in range(0, n, PRODUCT_BATCH):
            rows[: n - start] @ columns


def tf32(model: str, n: int, m: int, setting: Setting, found: Found) -> None:
    """Seconds in both precisions, and how far the scores are apart, by method."""
    trace = short_run(setting, model)
    trace = replace(trace, train=setting.rows(n), checkpoints=trace.checkpoints[-1:])
    test = setting.points(m)
    found["n"] = len(trace.train)
    found["m"] = len(test)
    for name, method in METHODS.items():
        spent: Found = {}
        full = _timed(method(), trace, test, setting, spent, "full")
        fast = _timed(method(precision="tf32"), trace, test, setting, spent, "tf32")
        error = (fast - full).norm() / full.norm()
        spent["difference, norm"] = float(error)
        spent["difference, largest"] = float(
            (fast - full).abs().max() / full.abs().max()
        )
        top = min(10, full.shape[1])
        spent[f"of the {top} largest, common"] = _common(fast, full, top)
        found[name] = spent


def _timed(
    method: Estimator,
    trace: Trace,
    test: Dataset,
    setting: Setting,
    spent: Found,
    name: str,
) -> Tensor:
    kept: list[Tensor] = []
    cost(setting, spent, name, lambda: kept.append(method.fit(trace)(test)))
    return kept[0]


def _common(one: Tensor, other: Tensor, top: int) -> float:
    """The share of the largest scores of each point that both have in common."""
    first = one.topk(top, 1).indices
    second = other.topk(top, 1).indices
    same = first[:, :, None] == second[:, None, :]
    return float(same.any(2).double().mean())
