"""How seconds and peak memory of the gradient-based estimators grow as n and m double, with the slopes on log-log axes.

The number of training steps stays as n doubles, so that HyDRA, which goes through them again, shows what n alone costs.
"""

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


def bench(smallest: int, m: int, doublings: int, rounds: int, device: torch.device) -> str:
    """Returns the report for n = smallest x 1, 2, 4, ... with m points, and for m x 1, 2, 4, ... with n = smallest."""
    sizes = (
        [(smallest << k, m) for k in range(doublings + 1)],
        [(smallest, m << k) for k in range(doublings + 1)],
    )
    traces = {}
    for k in range(doublings + 1):
        recipe = Recipe(
            model="cnn", epochs=EPOCHS >> k, batch_size=BATCH, lr=0.01, momentum=0.5, checkpoints=3
        )
        traces[smallest << k] = train(images(smallest << k, 1)[0].to(device), recipe, 0)
    test, source = images(1, m << doublings)[1].to(device), images(1, 1)[2]
    blocks = []
    for axis, pairs in zip("nm", sizes, strict=True):
        rows = []
        for name, estimator in CONTESTANTS.items():
            _score(estimator, traces[smallest], test.take(torch.arange(m)))  # warm
            timings: list[Timing] = []
            for n, points in pairs:
                run = partial(_score, estimator, traces[n], test.take(torch.arange(points)))
                timings += race({name: run}, rounds, device, warm=0).values()
            grown = [pair["nm".index(axis)] for pair in pairs]
            seconds, peaks = zip(
                *((f"{min(t.seconds):.2f}", f"{t.peak_bytes / 2**20:.0f}") for t in timings),
                strict=True,
            )
            rows.append((name, *seconds, f"{slope(grown, timings):.2f}", *peaks))
        head = [f"{axis} = {pair['nm'.index(axis)]}" for pair in pairs]
        blocks.append(
            table(("", *(f"s, {h}" for h in head), "slope", *(f"MiB, {h}" for h in head)), rows)
        )
    steps = EPOCHS * -(-smallest // BATCH)
    where = f"cnn on {source}, {steps} steps of {BATCH}, 3 checkpoints, fastest of {rounds} rounds. {machine(device)}."
    titles = [f"n doubled, m = {m}", f"m doubled, n = {smallest}"]
    return (
        f"Fit and scores: {where}\n\n"
        + "\n\n".join(f"{t}\n\n{b}" for t, b in zip(titles, blocks, strict=True))
        + "\n"
    )


def _score(estimator: Estimator, trace: Trace, test: Dataset) -> Tensor:
    return estimator.fit(trace)(test)
