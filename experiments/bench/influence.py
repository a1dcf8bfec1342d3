"""Influence functions by conjugate gradients: all test points together against one solve per point,
and against pydvl.

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
from experiments.bench.timing import Timing, machine, race, ratio, table
from poisonbench.data import Dataset, load
from poisonbench.gradients.curvature import Kind
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

KINDS: tuple[Kind, ...] = ("gauss-newton", "hessian")
TOLERANCE = 1e-2  # relative residual
SINGLE = 5  # test points that are solved one by one; their seconds are scaled to all


def together(estimator: InfluenceFunctions, trace: Trace, test: Dataset) -> Tensor:
    """All test points in one call."""
    return estimator.fit(trace)(test)


def one_by_one(estimator: InfluenceFunctions, trace: Trace, test: Dataset) -> Tensor:
    """One call per test point."""
    scorer = estimator.fit(trace)
    points = [test.take(torch.tensor([j])) for j in range(len(test))]
    return torch.cat([scorer(point) for point in points])


def pydvl(trace: Trace, test: Dataset, damping: float, simultaneous: bool) -> Tensor:
    """CgInfluence of pydvl on the Hessian, scores in our sign and scale."""
    from pydvl.influence.torch import CgInfluence
    from torch.utils.data import DataLoader, TensorDataset

    data = trace.train
    solver = CgInfluence(
        trace.model(),
        F.cross_entropy,
        regularization=damping + trace.weight_decay,
        rtol=TOLERANCE,
        atol=0.0,
        solve_simultaneously=simultaneous,
    )
    loader = DataLoader(TensorDataset(data.x, data.y), batch_size=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = solver.fit(loader)
        scores: Tensor = fitted.influences(test.x, test.y, data.x, data.y)
    return scores.detach() / len(data)


def contestants(
    trace: Trace,
    test: Dataset,
    damping: float,
) -> dict[str, Callable[[], Tensor]]:
    """Returns what races: all points together, and the first few together and one by one."""
    few = test.take(torch.arange(SINGLE))
    runs: dict[str, Callable[[], Tensor]] = {}
    for kind in KINDS:
        estimator = InfluenceFunctions(
            curvature=kind, damping=damping, tolerance=TOLERANCE
        )
        runs[f"{kind}, together"] = partial(together, estimator, trace, test)
        runs[f"{kind}, {SINGLE} together"] = partial(together, estimator, trace, few)
        runs[f"{kind}, {SINGLE} one by one"] = partial(
            one_by_one, estimator, trace, few
        )
    if importlib.util.find_spec("pydvl"):
        alone = partial(pydvl, trace, few, damping, False)
        at_once = partial(pydvl, trace, few, damping, True)
        runs[f"pydvl, hessian, {SINGLE} points"] = alone
        runs[f"pydvl, hessian, {SINGLE} simultaneously"] = at_once
    return runs


def bench(m: int, rounds: int, damping: float) -> str:
    """Races the contestants on the digits and returns the report."""
    data, points = load("digits")
    recipe = Recipe(model="cnn", epochs=20, batch_size=64, lr=0.05, checkpoints=1)
    trace = train(data, recipe, 0)
    test = points.take(torch.arange(m))
    results: dict[str, Tensor] = {}
    runs = {
        name: partial(_keep, results, name, run)
        for name, run in contestants(trace, test, damping).items()
    }
    timings = race(runs, rounds, data.x.device, warm=0)
    rows = [_row(name, m, timings, results) for name in timings]
    head = (
        "",
        "seconds",
        f"seconds for {m}",
        f"x all {m} together",
        "largest difference",
    )
    return (
        f"Influence functions by conjugate gradients to a relative residual of {TOLERANCE:g}, "
        f"damping {damping:g}: digits, cnn, n = {len(data)}, m = {m}, median of {rounds} rounds. "
        f"{machine(data.x.device)}.\n\n{table(head, rows)}\n"
    )


def _row(
    name: str,
    m: int,
    timings: dict[str, Timing],
    results: dict[str, Tensor],
) -> tuple[str, ...]:
    kind = "gauss-newton" if name.startswith("gauss") else "hessian"
    reference = f"{kind}, together"
    timing = timings[name]
    size = len(results[name])
    seconds = [t / size * m for t in timing.seconds]
    scaled = Timing(name, tuple(seconds), timing.peak_bytes)
    want = results[reference][:size]
    error = (results[name] - want).abs().max() / want.abs().max()
    return (
        name,
        f"{timing.median:.2f}",
        f"{scaled.median:.2f}",
        ratio(scaled, timings[reference]),
        f"{float(error):.1e}",
    )


def _keep(results: dict[str, Tensor], name: str, run: Callable[[], Tensor]) -> None:
    results[name] = run()
