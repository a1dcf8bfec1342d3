"""Shapley values: nearest neighbours against peers, and retraining on the whole of the digits."""

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from estimators.shapley.nearest_neighbours import knn_shapley
from estimators.shapley.shapley import Shapley
from experiments.bench.timing import machine, race, ratio, table
from experiments.scene.cost import measured
from poisonbench.data import Dataset, load
from poisonbench.notes import collecting
from poisonbench.seeding import generator
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

RECIPE = Recipe(model="mlp", epochs=20, batch_size=64, lr=0.05)


def pydvl(train_set: Dataset, test: Dataset, K: int) -> Tensor:
    """KNNShapleyValuation of pydvl, (n,), the mean over the test points."""
    from pydvl.valuation import Dataset as Data
    from pydvl.valuation import KNNShapleyValuation
    from sklearn.neighbors import KNeighborsClassifier

    points, queries = (
        Data(data.x.numpy(), data.y.numpy()) for data in (train_set, test)
    )
    fitted = KNNShapleyValuation(KNeighborsClassifier(K), queries, progress=False).fit(
        points
    )
    return torch.as_tensor(fitted.result.values[fitted.result.indices.argsort()])


def opendataval(train_set: Dataset, test: Dataset, K: int) -> Tensor:
    """KNNShapley of opendataval, (n,), the mean over the test points in one batch."""
    from opendataval.dataval import KNNShapley

    valued = KNNShapley(K, batch_size=max(len(train_set), len(test)))
    codes = [
        torch.nn.functional.one_hot(data.y, data.classes).float()
        for data in (train_set, test)
    ]
    valued.input_data(train_set.x, codes[0], test.x, codes[1])
    return torch.as_tensor(valued.train_data_values().evaluate_data_values())


def neighbours(n: int, m: int, d: int, K: int, rounds: int) -> str:
    """Races the contestants on random features, and returns the report with their differences."""
    g = generator(0, "features")
    train_set, test = (
        Dataset(
            torch.randn((k, d), generator=g), torch.randint(10, (k,), generator=g), 10
        )
        for k in (n, m)
    )
    runs: dict[str, Callable[[], Tensor]] = {
        "poisonbench": lambda: knn_shapley(
            train_set.x, train_set.y, test.x, test.y, K
        ).mean(0)
    }
    for name, run in (("pydvl", pydvl), ("opendataval", opendataval)):
        if importlib.util.find_spec(name):
            runs[name] = partial(run, train_set, test, K)
    results: dict[str, Tensor] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timings = race(
            {name: partial(_keep, results, name, run) for name, run in runs.items()},
            rounds,
            train_set.x.device,
        )
    mine, rows = timings["poisonbench"], []
    for name, timing in timings.items():
        error = float(
            (results[name] - results["poisonbench"]).abs().max()
            / results["poisonbench"].abs().max()
        )
        peak = f"{timing.peak_bytes / 2**20:.0f}"
        rows.append(
            (name, f"{timing.median:.3f}", ratio(timing, mine), peak, f"{error:.1e}")
        )
    what = (
        f"Exact values of a vote among {K} neighbours, n = {n}, m = {m}, d = {d}, "
        f"median of {rounds} rounds"
    )
    head = (
        "",
        "seconds",
        "x poisonbench",
        "peak MiB",
        "largest difference of the means",
    )
    return f"{what}. {machine(train_set.x.device)}.\n\n{table(head, rows)}\n"


def _keep(results: dict[str, Tensor], name: str, run: Callable[[], Tensor]) -> None:
    results[name] = run()


def retraining(estimators: list[Shapley], m: int) -> str:
    """Fits each estimator to the digits, scores m test points, and returns the report."""
    data, points = load("digits")
    trace = train(data, RECIPE, 0)
    test = points.take(torch.arange(m))
    test = test.relabel(trace.model()(test.x).argmax(1))
    rows = []
    for estimator in estimators:
        row = _retraining_row(estimator, trace, test)
        rows.append(row)
        print(*row, sep=" | ", flush=True)  # each takes minutes
    head = ["", "permutations", "models", "stopped by", "fit s", "score s", "peak MiB"]
    head += ["largest SE", "rms SE", "sd of values", "own class - others"]
    what = (
        f"Retraining on the whole of the digits, mlp, {RECIPE.epochs} epochs, n = {len(data)}, "
        f"{m} test points, utility 1 or 0"
    )
    return f"{what}. {machine(data.x.device)}.\n\n{table(head, rows)}\n"


def _retraining_row(estimator: Shapley, trace: Trace, test: Dataset) -> tuple[str, ...]:
    """Returns what one estimator cost, and how its values compare with their errors."""
    device = trace.train.x.device
    with tempfile.TemporaryDirectory() as folder, collecting() as told:
        with measured(device) as fit:
            scorer = estimator.fit(replace(trace, scratch=Path(folder)))
        with measured(device) as score:
            scores = scorer(test)
    errors = told.arrays["standard_error"].double()
    noise = errors.square().mean().sqrt()
    own = test.y[:, None] == trace.train.y
    signal = scores[own].mean() - scores[~own].mean()
    peak = max(fit.peak_bytes, score.peak_bytes)
    return (
        _title(estimator),
        str(told.figures.get("permutations", "")),
        str(told.figures["models"]),
        str(told.figures.get("stopped", "models")),
        f"{fit.seconds:.0f}",
        f"{score.seconds:.1f}",
        f"{peak / 2**20:.0f}",
        f"{float(errors.max()):.4f}",
        f"{float(noise):.4f}",
        f"{float(scores.double().std()):.4f}",
        f"{float(signal):.4f}",
    )


def _title(estimator: Shapley) -> str:
    if estimator.method == "beta":
        return f"beta({estimator.alpha:g}, {estimator.beta:g})"
    if estimator.method != "permutation":
        return estimator.method
    parts = ["permutation", "growing strides", f"precision {estimator.precision:g}"]
    if estimator.stride is not None:
        parts[1] = f"stride {estimator.stride}"
    if estimator.tolerance:
        parts.append(f"tolerance {estimator.tolerance:g}")
    return ", ".join(parts)
