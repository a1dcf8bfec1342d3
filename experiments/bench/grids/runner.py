"""What the runner costs beside its cells: wall time of a grid against the seconds in its logs.

Start-up is that of a run of one small scene for each worker, less the seconds of its cells: a new
process loads the libraries. The overhead of a run is its wall time less start-up, against the sum
of the seconds of all cells over the workers. Processor seconds are those of all processes of a run:
on a machine with other work wall times say little, and shares of processor seconds more.
"""

import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.bench.timing import machine, table
from experiments.plan.cells import seconds_of
from experiments.plan.parse import parse
from experiments.plan.paths import Place
from experiments.runner.run import Options, run
from poisonbench import log

WORKS = "experiments.bench.grids.works:Works"
BASE = {
    "dataset": "digits",
    "recipe": {"model": "cnn", "epochs": 5, "checkpoints": 5},
    "attack": [{"name": "patch", "budget": 0.05}],
}
SMALL = {
    **BASE,
    "name": "small",
    "estimator": [{"name": "tracin"}, {"name": "gas"}, {"name": "representer-point"}],
    "detector": [
        {"name": "tail-heaviness", "k": [3, 10], "scope": ["label", "all"]},
        {"name": "foreign-or-fragile"},
        {"name": "class-similarity"},
    ],
}
SECONDS = {
    **BASE,
    "name": "seconds",
    "recipe": {"model": "linear", "epochs": 1, "checkpoints": 1},
    "detector": [{"name": WORKS, "seconds": 1.2, "number": [0, 1, 2, 3, 4]}],
}
CELLS_OF_SMALL = 20  # of a scene
HEAD = (
    "cells",
    "each, s",
    "workers",
    "wall, s",
    "start-up, s",
    "cells / workers, s",
    "overhead",
    "processor, s",
)


@dataclass(frozen=True)
class Measured:
    """A run: its cells, wall seconds, the seconds in its logs, and all processor seconds."""

    cells: int
    wall: float
    inside: float
    processor: float


def measure(content: Mapping[str, Any], scenes: int, workers: int) -> Measured:
    """Runs a grid of so many scenes in a new folder."""
    with tempfile.TemporaryDirectory(prefix="poisonbench-") as folder:
        grid = parse({**content, "seeds": list(range(scenes))})
        before = _processor()
        start = time.perf_counter()
        summary = run(grid, Place(Path(folder)), Options(workers))
        wall = time.perf_counter() - start
        processor = _processor() - before
        inside = 0.0
        for path in Path(folder).glob("scenes/*/*.h5"):
            if path.name != "trace.h5":
                inside += seconds_of(log.read(path, keys=()).attributes)
    if summary.failed:
        raise RuntimeError(summary.failed[0])
    return Measured(summary.done, wall, inside, processor)


def _processor() -> float:
    """Processor seconds of this process and of its children that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total


def bench(cells: list[int], workers: list[int], scenes_of_seconds: int) -> str:
    """Returns the tables of small cells and of cells of a second or more."""
    rows = []
    walls = {}
    for count in workers:
        few = measure({**BASE, "name": "start"}, count, count)
        start = few.wall - few.inside / count
        for wanted in cells:
            scenes = wanted // CELLS_OF_SMALL
            rows.append(_row(measure(SMALL, scenes, count), count, start))
        found = measure(SECONDS, scenes_of_seconds, count)
        rows.append(_row(found, count, start))
        walls[count] = found.wall
    lines = [machine(torch.device("cpu")), "", table(HEAD, rows)]
    if len(walls) > 1:
        one, most = min(walls), max(walls)
        faster = walls[one] / walls[most]
        told = f"Cells of a second or more: {most} workers are {faster:.2f} x as fast as {one}"
        lines += ["", f"{told}, start-up included."]
    return "\n".join(lines)


def _row(found: Measured, workers: int, start: float) -> list[str]:
    ideal = found.inside / workers
    overhead = (found.wall - start) / ideal - 1
    return [
        f"{found.cells}",
        f"{found.inside / found.cells:.2f}",
        f"{workers}",
        f"{found.wall:.1f}",
        f"{start:.1f}",
        f"{ideal:.1f}",
        f"{overhead:+.1%}",
        f"{found.processor:.1f}",
    ]
