"""How processor seconds and peak memory of detectors, filters and certifiers grow with n, beside
those of an influence matrix and of a training.

The victim is trained for one epoch and has one checkpoint, so that the influence matrix to which a
defense is held is the cheapest that there is.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from defenses import DETECTORS, FILTERS
from defenses.certifiers.deep_partition_aggregation import DeepPartitionAggregation
from defenses.certifiers.finite_aggregation import FiniteAggregation
from defenses.detectors.rehearsed import Rehearsed
from experiments.bench.defended.problem import RECIPE, Problem
from experiments.bench.problem import images
from experiments.bench.timing import machine, table
from experiments.evaluation.intervals import t_quantile
from experiments.scene.cost import measured
from poisonbench.contracts.protocols import Certifier, Detector, Filter

Run = Callable[[Problem], object]
CPU = torch.device("cpu")
INFLUENCE = "influence matrix (gas, 1 checkpoint)"
TRAINING = "training (1 epoch)"
_WARM = 300  # rows of a first run
REHEARSED = Rehearsed(rehearsals=0, stream=True)
CERTIFIERS: dict[str, Certifier] = {
    "deep-partition-aggregation, 5 parts": DeepPartitionAggregation(
        parts=5, epochs=1, batch_size=64
    ),
    "finite-aggregation, 5 models on 2 of 10 parts": FiniteAggregation(
        k=5, d=2, epochs=1, batch_size=64
    ),
}


@dataclass
class Measured:
    """What one contestant took, a round after the other at each size.

    Attributes:
        sizes: n of each run.
        seconds: of the processor.
        peaks: bytes beyond those in use before, by n; the largest of the rounds.
    """

    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peaks: dict[int, int] = field(default_factory=dict)

    def add(self, n: int, seconds: float, peak: int) -> None:
        """Adds one run."""
        self.sizes.append(n)
        self.seconds.append(seconds)
        self.peaks[n] = max(peak, self.peaks.get(n, 0))

    def fastest(self, n: int) -> float:
        """Returns the seconds of the fastest round at a size."""
        runs = zip(self.sizes, self.seconds, strict=True)
        return min(seconds for size, seconds in runs if size == n)


def bench(sizes: Sequence[int], m: int, rounds: int, only: Sequence[str]) -> str:
    """Returns the report.

    Args:
        sizes: numbers of training rows.
        m: points that are judged.
        rounds: of each measurement.
        only: contestants beside the influence matrix; none: all.
    """
    runs = _chosen(only)
    few = Problem.of(_WARM, m)
    for run in runs.values():  # loads what is imported late; not counted
        run(few)
    found = {name: Measured() for name in runs}
    for n in sizes:
        problem = Problem.of(n, m)
        for _ in range(rounds):
            for name, run in runs.items():
                seconds, peak = _timed(run, problem)
                found[name].add(n, seconds, peak)
                told = f"n = {n}, {name}: {seconds:.2f} s"
                print(
                    told,
                    file=sys.stderr,
                    flush=True,
                )
    _, _, source = images(1, 1)
    told = (
        f"Processor seconds (fastest of {rounds} rounds) and peak memory beyond the data, "
        f"{m} points, half of them trusted: cnn on {source}, {RECIPE.epochs} epoch, "
        f"1 checkpoint. {machine(CPU)}."
    )
    return f"{told}\n\n{_table(sizes, found)}\n"


def contestants() -> dict[str, Run]:
    """Returns all that is measured, by name; the influence matrix comes first."""
    runs: dict[str, Run] = {INFLUENCE: Problem.score, TRAINING: Problem.train}
    for name, kind in DETECTORS.items():
        runs[name] = _judging(REHEARSED if kind is Rehearsed else kind())
    for name, kind in FILTERS.items():
        runs[f"filter: {name}"] = _judging(kind())
    for name, certifier in CERTIFIERS.items():
        runs[f"certifier: {name}"] = _certifying(certifier)
    return runs


def _chosen(only: Sequence[str]) -> dict[str, Run]:
    """Returns the contestants asked for, and the influence matrix."""
    every = contestants()
    names = [INFLUENCE, *only] if only else list(every)
    return {name: every[name] for name in names}


def _judging(method: Detector | Filter) -> Run:
    return lambda problem: method(problem.evidence(method.uses))


def _certifying(certifier: Certifier) -> Run:
    def run(problem: Problem) -> object:
        return certifier(problem.trace.train, problem.points, RECIPE, 0)

    return run


def _timed(run: Run, problem: Problem) -> tuple[float, int]:
    """Returns the processor seconds of a run and its peak of memory."""
    with measured(CPU) as cost:
        start = time.process_time()
        run(problem)
        seconds = time.process_time() - start
    return seconds, cost.peak_bytes


def _table(sizes: Sequence[int], found: dict[str, Measured]) -> str:
    """Returns a row for each contestant, the dearest at the largest size first."""
    largest = sizes[-1]
    last = {name: its.fastest(largest) for name, its in found.items()}
    order = sorted(
        last,
        key=last.__getitem__,
        reverse=True,
    )
    rows = []
    for name in order:
        its = found[name]
        share = last[name] / last[INFLUENCE]
        row = [name]
        for n in sizes:
            seconds = its.fastest(n)
            row.append(f"{seconds:.2f}")
        row.append(_told(its))
        row.append(f"{share:.2f}")
        for n in sizes:
            peak = its.peaks[n] / 2**20
            row.append(f"{peak:.0f}")
        rows.append(row)
    seconds_head = [f"s, n = {n}" for n in sizes]
    peaks_head = [f"MiB, n = {n}" for n in sizes]
    head = ("", *seconds_head, "exponent", "x influence", *peaks_head)
    return table(head, rows)


def _told(its: Measured) -> str:
    if len(set(its.sizes)) < 2:
        return ""
    low, middle, high = exponent(
        its.sizes,
        its.seconds,
    )
    if math.isinf(high):
        return f"{middle:.2f}"
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def exponent(
    sizes: Sequence[int], seconds: Sequence[float]
) -> tuple[float, float, float]:
    """Returns the slope of log seconds over log n by least squares, with its 95 % interval.

    Args:
        sizes: n of each run, at least two different ones.
        seconds: of each run.

    Returns:
        Its lower end, itself, its upper end; infinite ends where there are no more than two runs.
    """
    x = np.log(sizes)
    y = np.log(seconds)
    x = x - x.mean()
    y = y - y.mean()
    spread = float(x @ x)
    slope = float(x @ y) / spread
    free = len(x) - 2
    if free < 1:
        return -math.inf, slope, math.inf
    rest = y - slope * x
    error = math.sqrt(float(rest @ rest) / free / spread)
    reach = t_quantile(free) * error
    return slope - reach, slope, slope + reach
