"""Influence functions by conjugate gradients: all test points together against one solve a point, and against pydvl.

All stop at the same relative residual; how far the scores then differ is shown.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from estimators.influence_functions import InfluenceFunctions
from experiments.bench.timing import machine, race, ratio, table
from poisonbench.data import Dataset, load
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

SINGLE = 5  # test points that are solved one by one; their seconds are scaled to all


def together(estimator: InfluenceFunctions, trace: Trace, test: Dataset) -> Tensor:
    """All test points in one call."""
    return estimator.fit(trace)(test)


def one_by_one(estimator: InfluenceFunctions, trace: Trace, test: Dataset) -> Tensor:
    """One call a test point."""
    scorer = estimator.fit(trace)
    return torch.cat([scorer(test.take(torch.tensor([j]))) for j in range(len(test))])


def pydvl(
    estimator: InfluenceFunctions,
    trace: Trace,
    test: Dataset,
    damping: float,
    simultaneous: bool,
) -> Tensor:
    """CgInfluence of pydvl on the Hessian, scores in our sign and scale."""
    from pydvl.influence.torch import CgInfluence
    from torch.utils.data import DataLoader, TensorDataset

    model, data = trace.model(), trace.train
    shift = damping + trace.recipe.weight_decay
    solver = CgInfluence(
        model,
        F.cross_entropy,
        regularization=shift,
        rtol=estimator.tolerance,
        atol=0.0,
        solve_simultaneously=simultaneous,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = solver.fit(DataLoader(TensorDataset(data.x, data.y), batch_size=64))
        scores: Tensor = fitted.influences(test.x, test.y, data.x, data.y)
    return scores.detach() / len(data)


def bench(m: int, rounds: int, damping: float) -> str:
    """Races the contestants on the digits and returns the report."""
    data, points = load("digits")
    recipe = Recipe(model="cnn", epochs=20, batch_size=64, lr=0.05, checkpoints=1)
    trace, test = train(data, recipe, 0), points.take(torch.arange(m))
    few = test.take(torch.arange(SINGLE))
    estimators = {
        kind: InfluenceFunctions(curvature=kind, damping=damping)
        for kind in ("gauss-newton", "hessian")
    }
    runs: dict[str, Callable[[], Tensor]] = {}
    for kind, estimator in estimators.items():
        runs[f"{kind}, together"] = partial(together, estimator, trace, test)
        runs[f"{kind}, {SINGLE} together"] = partial(together, estimator, trace, few)
        runs[f"{kind}, {SINGLE} one by one"] = partial(one_by_one, estimator, trace, few)
    if importlib.util.find_spec("pydvl"):
        runs[f"pydvl, hessian, {SINGLE} points"] = partial(
            pydvl, estimators["hessian"], trace, few, damping, False
        )
        runs[f"pydvl, hessian, {SINGLE} simultaneously"] = partial(
            pydvl, estimators["hessian"], trace, few, damping, True
        )
    results: dict[str, Tensor] = {}
    timings = race(
        {name: partial(_keep, results, name, run) for name, run in runs.items()},
        rounds,
        data.x.device,
        warm=0,
    )
    rows = []
    for name, timing in timings.items():
        kind = "gauss-newton" if name.startswith("gauss") else "hessian"
        mine, size = timings[f"{kind}, together"], len(results[name])
        each = [t / size * m for t in timing.seconds]
        reference = results[f"{kind}, together"][:size]
        error = float((results[name] - reference).abs().max() / reference.abs().max())
        scaled = type(timing)(name, tuple(each), timing.peak_bytes)
        rows.append(
            (
                name,
                f"{timing.median:.2f}",
                f"{scaled.median:.2f}",
                ratio(scaled, mine),
                f"{error:.1e}",
            )
        )
    head = ("", "seconds", f"seconds for {m}", f"x all {m} together", "largest difference")
    tolerance = estimators["hessian"].tolerance
    what = f"Influence functions by conjugate gradients to a relative residual of {tolerance:g}, damping {damping:g}"
    where = f"digits, cnn, n = {len(data)}, m = {m}, median of {rounds} rounds. {machine(data.x.device)}."
    return f"{what}: {where}\n\n{table(head, rows)}\n"


def _keep(results: dict[str, Tensor], name: str, run: Callable[[], Tensor]) -> None:
    results[name] = run()
