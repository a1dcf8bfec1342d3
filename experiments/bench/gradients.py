"""TracIn at checkpoints: our engine against the floor, a plain autograd loop, and the peers that are installed.

The floor is a forward and backward pass over the same data at the same checkpoints and the matrix product alone.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.problem import CHECKPOINTS, Problem, problem
from experiments.bench.timing import Timing, machine, race, ratio, table
from poisonbench.data import Dataset
from poisonbench.gradients.products import dot_products

FLOOR_BATCH = 128
WARM = 64  # instances of a first run that is not counted


def ours(p: Problem) -> Tensor:
    """Our engine."""
    return torch.stack([dot_products(model, p.train, p.test) for model in p.models]).sum(0)


def floor_passes(p: Problem) -> None:
    """A forward and backward pass over training and test data at every checkpoint."""
    for model in p.models:
        for data in (p.train, p.test):
            for x, y in zip(data.x.split(FLOOR_BATCH), data.y.split(FLOOR_BATCH), strict=True):
                model.zero_grad()
                F.cross_entropy(model(x), y, reduction="sum").backward()


def floor_product(p: Problem) -> None:
    """The matrix product of (m, p) and (p, n) at every checkpoint, a batch of training rows at a time."""
    rows = torch.ones(FLOOR_BATCH, p.size, device=p.train.x.device)
    columns = torch.ones(p.size, len(p.test), device=p.train.x.device)
    for _ in range(CHECKPOINTS * -(-len(p.train) // FLOOR_BATCH)):
        rows @ columns


def autograd_loop(p: Problem) -> Tensor:
    """One backward pass an instance; the training gradients are multiplied in batches."""

    def gradients(model: nn.Module, data: Dataset) -> Tensor:
        rows = []
        for x, y in zip(data.x.split(1), data.y.split(1), strict=True):
            grads = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
            rows.append(torch.cat([g.flatten() for g in grads]))
        return torch.stack(rows)

    total = torch.zeros(len(p.test), len(p.train), device=p.train.x.device)
    for model in p.models:
        test = gradients(model, p.test)
        parts = [
            Dataset(x, y, 10)
            for x, y in zip(p.train.x.split(FLOOR_BATCH), p.train.y.split(FLOOR_BATCH), strict=True)
        ]
        total += torch.cat([test @ gradients(model, part).T for part in parts], 1)
    return total


def bench(names: list[str], n: int, m: int, rounds: int, device: torch.device) -> str:
    """Races all contestants on each model, checks that all scores agree, and returns the report."""
    from experiments.bench.peers import peers

    lines = [
        f"TracIn at {CHECKPOINTS} checkpoints, n = {n}, m = {m}, median of {rounds} rounds. {machine(device)}.",
        "",
    ]
    for name in names:
        p, source = problem(name, n, m, device)
        small, _ = problem(name, WARM, WARM, device)
        results: dict[str, Tensor] = {}
        scorers = {"poisonbench": ours, "autograd loop": autograd_loop, **peers()}
        floor = {"floor: passes": floor_passes, "floor: product": floor_product}
        race(
            {label: partial(run, small) for label, run in {**floor, **scorers}.items()},
            1,
            device,
            warm=0,
        )  # warm, and not counted
        runs = {label: partial(run, p) for label, run in floor.items()}
        runs |= {label: partial(_keep, results, label, run, p) for label, run in scorers.items()}
        timings = race(runs, rounds, device, warm=0)
        lines += [f"{name}, {p.size:,} parameters, {source}", "", _report(timings, results), ""]
    return "\n".join(lines)


def _keep(
    results: dict[str, Tensor], label: str, run: Callable[[Problem], Tensor], p: Problem
) -> None:
    results[label] = run(p)


def _report(timings: dict[str, Timing], results: dict[str, Tensor]) -> str:
    passes, product = timings["floor: passes"], timings["floor: product"]
    floor = Timing(
        "floor", tuple(a + b for a, b in zip(passes.seconds, product.seconds, strict=True)), -1
    )
    mine, norm = timings["poisonbench"], float(results["poisonbench"].norm())
    rows = []
    for timing in sorted([floor, *timings.values()], key=lambda t: t.median):
        scores = results.get(timing.name)
        error = (
            ""
            if scores is None
            else f"{float((scores - results['poisonbench']).norm()) / norm:.1e}"
        )
        peak = "" if timing.peak_bytes < 0 else f"{timing.peak_bytes / 2**20:.0f}"
        rows.append(
            (
                timing.name,
                f"{timing.median:.2f}",
                ratio(timing, floor),
                ratio(timing, mine),
                peak,
                error,
            )
        )
    return table(("", "seconds", "x floor", "x poisonbench", "peak MiB", "difference"), rows)


def save(text: str, path: Path | None) -> None:
    """Prints the report and writes it, where a path is given."""
    print(text)
    if path is not None:
        path.write_text(text, encoding="utf-8")
