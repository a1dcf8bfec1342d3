"""HyDRA's seconds and peak memory as n doubles while the number of steps stays: the exact form's memory does not depend on n."""

from functools import partial

import torch
from torch import Tensor

from estimators.hydra import HyDRA
from experiments.bench.timing import Timing, machine, race, table
from poisonbench.data import Dataset
from poisonbench.seeding import generator
from poisonbench.trace import Trace
from poisonbench.training import Recipe, train

SHAPE, BATCH, EPOCHS = (1, 28, 28), 32, 8  # epochs at the smallest n


def score(estimator: HyDRA, trace: Trace, test: Dataset) -> Tensor:
    """Fit and scores."""
    return estimator.fit(trace)(test)


def bench(smallest: int, m: int, rounds: int, device: torch.device) -> str:
    """Returns the report for n = smallest x 1, 2, 4, 8."""
    g = generator(0, "noise")

    def noise(rows: int) -> Dataset:
        return Dataset(torch.rand((rows, *SHAPE), generator=g), torch.randint(10, (rows,), generator=g), 10).to(device)

    test, timings = noise(m), dict[str, Timing]()
    for k in range(4):
        recipe = Recipe(model="cnn", epochs=EPOCHS >> k, batch_size=BATCH, lr=0.01, momentum=0.5)
        trace = train(noise(smallest << k), recipe, 0)
        for name, estimator in (("fast", HyDRA()), ("exact", HyDRA(hessian=True))):
            timings |= race({f"{name}, n = {smallest << k}": partial(score, estimator, trace, test)}, rounds, device)
    rows = [(name, f"{t.median:.2f}", f"{t.peak_bytes / 2**20:.0f}") for name, t in sorted(timings.items())]
    steps = EPOCHS * -(-smallest // BATCH)
    where = f"cnn on noise of shape {SHAPE}, {steps} steps of {BATCH}, m = {m}, {rounds} rounds. {machine(device)}."
    return f"HyDRA, n doubled at equal steps: {where}\n\n{table(('', 'seconds', 'peak MiB'), rows)}\n"
