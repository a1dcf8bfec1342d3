"""How seconds and peak memory of the gradient-based estimators grow as n and m double, with the
slopes on log-log axes.

The number of training steps stays as n doubles, so that HyDRA, which goes through them again, shows
what n alone costs.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from estimators import ESTIMATORS
from experiments.bench.problem import images
from experiments.bench.timing import Timing, machine, race, slope, table
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset
from poisonbench.training import Recipe, train
from poisonbench.training.trace import Trace

BATCH, EPOCHS = 32, 16  # epochs at the smallest n
CONTESTANTS: dict[str, Estimator] = {
    "tracin": ESTIMATORS["tracin"](),
    "gas": ESTIMATORS["gas"](),
    "influence-functions": ESTIMATORS["influence-functions"](),
    "representer-point": ESTIMATORS["representer-point"](),
    "hydra": ESTIMATORS["hydra"](),
    "hydra, exact": ESTIMATORS["hydra"](hessian=True),
}


def bench(
    smallest: int, m: int, doublings: int, rounds: int, device: torch.device
) -> str:
    """Returns the report for n and for m times 1, 2, 4 and so on."""
    factors = [1 << k for k in range(doublings + 1)]
    _, test, source = images(1, m * factors[-1])
    test = test.to(device)
    traces = {smallest * factor: run(smallest, factor, device) for factor in factors}
    by_n = [Sizes(smallest * factor, m) for factor in factors]
    by_m = [Sizes(smallest, m * factor) for factor in factors]
    steps = EPOCHS * -(-smallest // BATCH)
    parts = [
        f"Fit and scores: cnn on {source}, {steps} steps of {BATCH}, 3 checkpoints, "
        f"fastest of {rounds} rounds. {machine(device)}.",
        f"n doubled, m = {m}",
        axis_table("n", [sizes.n for sizes in by_n], by_n, traces, test, rounds),
        f"m doubled, n = {smallest}",
        axis_table("m", [sizes.m for sizes in by_m], by_m, traces, test, rounds),
    ]
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Sizes:
    """Numbers of training and of test instances."""

    n: int
    m: int


def run(smallest: int, factor: int, device: torch.device) -> Trace:
    """Returns a run on smallest x factor instances of as many steps as on the smallest."""
    recipe = Recipe(
        model="cnn",
        epochs=EPOCHS // factor,
        batch_size=BATCH,
        lr=0.01,
        momentum=0.5,
        checkpoints=3,
    )
    data, _, _ = images(smallest * factor, 1)
    return train(data.to(device), recipe, 0)


def axis_table(
    axis: str,
    grown: list[int],
    sizes: list[Sizes],
    traces: dict[int, Trace],
    test: Dataset,
    rounds: int,
) -> str:
    """Returns seconds and memory of every contestant as one size grows.

    Args:
        axis: its name.
        grown: its values.
        sizes: both sizes, for each value.
        traces: by number of training instances.
        test: the points, of which the first are taken.
        rounds: of which the fastest counts.
    """
    rows = []
    for name, estimator in CONTESTANTS.items():
        _score(
            estimator, traces[sizes[0].n], test.take(torch.arange(sizes[0].m))
        )  # warm
        timings: list[Timing] = []
        for size in sizes:
            points = test.take(torch.arange(size.m))
            scored = partial(_score, estimator, traces[size.n], points)
            timings += race({name: scored}, rounds, test.x.device, warm=0).values()
        seconds = [f"{min(t.seconds):.2f}" for t in timings]
        peaks = [f"{t.peak_bytes / 2**20:.0f}" for t in timings]
        rows.append((name, *seconds, f"{slope(grown, timings):.2f}", *peaks))
    values = [f"{axis} = {value}" for value in grown]
    seconds_head = [f"s, {value}" for value in values]
    peaks_head = [f"MiB, {value}" for value in values]
    return table(("", *seconds_head, "slope", *peaks_head), rows)


def _score(estimator: Estimator, trace: Trace, test: Dataset) -> Tensor:
    return estimator.fit(trace)(test)
