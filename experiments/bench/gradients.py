"""TracIn at checkpoints: our engine against the floor, a plain autograd loop, and the peers that
are installed.

The floor is a forward and backward pass over the same data at the same checkpoints and the matrix
product alone.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.problem import Problem, problem
from experiments.bench.timing import Timing, machine, race, ratio, table, unit
from poisonbench.data import Dataset
from poisonbench.gradients import dot_products
from poisonbench.memory import batches

FLOOR_BATCH = 128
WARM = 64  # instances of a first run that is not counted


def ours(p: Problem) -> Tensor:
    """Our engine."""
    return torch.stack(
        [dot_products(model, p.train, p.test) for model in p.models]
    ).sum(0)


def floor_passes(p: Problem) -> None:
    """A forward and backward pass over training and test data at every checkpoint."""
    for model in p.models:
        for data in (p.train, p.test):
            for part in batches(data, FLOOR_BATCH):
                model.zero_grad()
                loss = F.cross_entropy(model(part.x), part.y, reduction="sum")
                loss.backward()


def floor_product(p: Problem) -> None:
    """The matrix product of (m, p) and (p, n) at every checkpoint, batch by batch.

    Of a table of words p counts those of one sentence.
    """
    held = p.held
    rows = torch.ones(FLOOR_BATCH, held, device=p.train.x.device)
    columns = torch.ones(held, len(p.test), device=p.train.x.device)
    for _ in p.models:
        for _ in range(0, len(p.train), FLOOR_BATCH):
            rows @ columns


def autograd_loop(p: Problem) -> Tensor:
    """One backward pass per instance; the training gradients are multiplied in batches."""
    total = torch.zeros(len(p.test), len(p.train), device=p.train.x.device)
    for model in p.models:
        test = _one_by_one(model, p.test)
        columns = [
            test @ _one_by_one(model, part).T for part in batches(p.train, FLOOR_BATCH)
        ]
        total += torch.cat(columns, 1)
    return total


def _one_by_one(model: nn.Module, data: Dataset) -> Tensor:
    """Returns the gradients, (B, p)."""
    rows = []
    for x, y in zip(data.x.split(1), data.y.split(1), strict=True):
        loss = F.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows)


def bench(
    names: list[str],
    n: int,
    m: int,
    checkpoints: int,
    rounds: int,
    device: torch.device,
    alone: bool,
) -> str:
    """Races all contestants on each model, checks that all scores agree, and returns the report.

    Args:
        names: of the models.
        n: training instances.
        m: test instances.
        checkpoints: of each model.
        rounds: of which the medians are told.
        device: where all run.
        alone: the engine against its floor, without a loop and peers.
    """
    lines = [
        f"TracIn at {checkpoints} checkpoints, n = {n}, m = {m}, median of {rounds} rounds, "
        f"{unit(device)}. {machine(device)}.",
        "",
    ]
    for name in names:
        p, source = problem(name, n, m, device, checkpoints)
        small, _ = problem(name, WARM, WARM, device, checkpoints)
        report = _race(p, small, rounds, device, alone)
        lines += [_told(name, p, source), "", report, ""]
    return "\n".join(lines)


def _told(name: str, p: Problem, source: str) -> str:
    if p.held == p.size:
        return f"{name}, {p.size:,} parameters, {source}"
    return f"{name}, {p.size:,} parameters, {p.held:,} in a gradient, {source}"


def _race(
    p: Problem, small: Problem, rounds: int, device: torch.device, alone: bool
) -> str:
    """Races all contestants on one problem, warmed up on a small one."""
    from experiments.bench.peers.installed import peers

    floor: dict[str, Callable[[Problem], None]] = {
        "floor: passes": floor_passes,
        "floor: product": floor_product,
    }
    scorers: dict[str, Callable[[Problem], Tensor]] = {"poisonbench": ours}
    if not alone:
        scorers = {**scorers, "autograd loop": autograd_loop, **peers()}
    warm = {label: partial(run, small) for label, run in {**floor, **scorers}.items()}
    race(warm, 1, device, warm=0)  # not counted
    results: dict[str, Tensor] = {}
    runs = {label: partial(run, p) for label, run in floor.items()}
    for label, run in scorers.items():
        runs[label] = partial(_keep, results, label, run, p)
    timings = race(runs, rounds, device, warm=0)
    return _report(timings, results)


def _keep(
    results: dict[str, Tensor],
    label: str,
    run: Callable[[Problem], Tensor],
    p: Problem,
) -> None:
    results[label] = run(p)


def _report(timings: dict[str, Timing], results: dict[str, Tensor]) -> str:
    passes = timings["floor: passes"].seconds
    product = timings["floor: product"].seconds
    sums = [a + b for a, b in zip(passes, product, strict=True)]
    floor = Timing("floor", tuple(sums), -1)
    rows = []
    for timing in sorted([floor, *timings.values()], key=lambda t: t.median):
        row = (
            timing.name,
            f"{timing.median:.2f}",
            ratio(timing, floor),
            ratio(timing, timings["poisonbench"]),
            _peak(timing),
            _difference(results, timing.name),
        )
        rows.append(row)
    head = ("", "seconds", "x floor", "x poisonbench", "peak MiB", "difference")
    return table(head, rows)


def _peak(timing: Timing) -> str:
    if timing.peak_bytes < 0:
        return ""
    return f"{timing.peak_bytes / 2**20:.0f}"


def _difference(results: dict[str, Tensor], name: str) -> str:
    """Returns how far a contestant's scores are from ours, relative to these; "" for a floor."""
    if name not in results:
        return ""
    want = results["poisonbench"]
    error = (results[name] - want).norm() / want.norm()
    return f"{float(error):.1e}"


def save(text: str, path: Path | None) -> None:
    """Prints the report and writes it, where a path is given."""
    print(text)
    if path is not None:
        path.write_text(text, encoding="utf-8")
