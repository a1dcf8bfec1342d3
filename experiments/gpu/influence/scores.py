"""TracIn and GAS on the whole of CIFAR-10 against the floor, and what lower precision costs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import get_args

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
from poisonbench.gradients import plan
from poisonbench.gradients.forms import summed_products
from poisonbench.memory import batches, room
from poisonbench.seeding import exact_arithmetic
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

CHECKPOINTS = 5
WARM = 1024  # rows of a first call, which is not measured
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
    warm = replace(trace, train=setting.rows(WARM))
    estimator.fit(warm)(setting.points(2))
    took = cost(setting, found, "scores", lambda: estimator.fit(trace)(test))
    least = floor(trace, test, setting, found, size.precision)
    found["x floor"] = round(took / least, 3)


def cost(setting: Setting, found: Found, name: str, run: Callable[[], object]) -> float:
    """Keeps the seconds of a call and the peak of memory above what was there before it."""
    with measured(setting.device) as spent:
        run()
    found[f"{name}, s"] = round(spent.seconds, 4)
    found[f"{name}, peak MiB"] = spent.peak_bytes >> 20
    return spent.seconds


def floor(
    trace: Trace,
    test: Dataset,
    setting: Setting,
    found: Found,
    precision: Precision,
) -> float:
    """Returns the seconds of the passes and of the products alone, in the engine's batches.

    A forward and backward pass over all instances, and the products of (m, p_l) and (p_l, n) for
    every parameter l; that of the training set from one row in SHARE, at the last checkpoint.
    """
    model = trace.model()
    with asking(precision), exact_arithmetic():
        how = plan(model, "all", trace.train.x)
        kind = torch.bfloat16 if precision == "bf16" else None
        _, batch = room(test, how.size, None, how.widest, kind)
        if precision == "bf16":
            model.to(torch.bfloat16)
        found["batch"] = batch
        some = setting.rows(len(trace.train) // SHARE)
        _passes(model, some.take(torch.arange(2)), batch)
        over_test = cost(
            setting, found, "floor: test", partial(_passes, model, test, batch)
        )
        passes = cost(
            setting, found, "floor: passes / 10", partial(_passes, model, some, batch)
        )
        widest = max(p.numel() for p in model.parameters())
        sides = _Sides(_ones(model, batch, widest), _ones(model, len(test), widest))
        sides.multiply(model, 2)
        product = cost(
            setting,
            found,
            "floor: product / 10",
            partial(sides.multiply, model, len(some)),
        )
    whole = over_test + SHARE * (passes + product)
    return len(trace.checkpoints) * whole


def _passes(model: nn.Module, data: Dataset, size: int) -> None:
    kind = next(model.parameters()).dtype
    for batch in batches(data, size):
        model.zero_grad()
        logits = model(batch.x.to(kind))
        F.cross_entropy(logits, batch.y, reduction="sum").backward()


def _ones(model: nn.Module, rows: int, width: int) -> Tensor:
    return next(model.parameters()).detach().new_ones(rows, width)


@dataclass(frozen=True, eq=False)
class _Sides:
    """What is multiplied, as wide as the largest parameter; the entries are all the same.

    Attributes:
        rows: of a batch.
        columns: of all test points.
    """

    rows: Tensor
    columns: Tensor

    def multiply(self, model: nn.Module, n: int) -> None:
        """Multiplies n rows, a batch at a time and a parameter after the other."""
        for start in range(0, n, len(self.rows)):
            rows = self.rows[: n - start]
            for p in model.parameters():
                size = p.numel()
                summed_products(rows[:, :size], self.columns[:, :size])


def precisions(model: str, n: int, m: int, setting: Setting, found: Found) -> None:
    """Seconds in all precisions, and how far the scores are from those of float32, by method."""
    trace = short_run(setting, model)
    trace = replace(trace, train=setting.rows(n), checkpoints=trace.checkpoints[-1:])
    test = setting.points(m)
    warm = replace(trace, train=setting.rows(WARM))
    found["n"] = len(trace.train)
    found["m"] = len(test)
    for name, method in METHODS.items():
        spent: Found = {}
        found[name] = spent
        for precision in get_args(Precision):
            estimator = method(precision=precision)
            estimator.fit(warm)(setting.points(2))
            scored = _timed(estimator, trace, test, setting, spent, precision)
            if precision == "full":
                full = scored
            else:
                spent[f"{precision}, apart"] = _apart(scored, full)


def _apart(fast: Tensor, full: Tensor) -> Found:
    """How far scores (m, n) are from those of full precision."""
    difference = fast - full
    top = min(10, full.shape[1])
    return {
        "norm": float(difference.norm() / full.norm()),
        "largest": float(difference.abs().max() / full.abs().max()),
        f"of the {top} largest, common": _common(fast, full, top),
    }


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
