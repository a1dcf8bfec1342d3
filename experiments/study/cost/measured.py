"""Seconds of the processor and bytes of every estimator at every size."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from experiments.scene.cost import measured
from experiments.study.cost.contestants import Contestant
from experiments.study.cost.held import held_bytes
from experiments.study.cost.sizes import Case, Sizes, case

FACTORS = (1, 2, 4, 8)
LEAST = 1e-6  # seconds, of the clock


@dataclass(frozen=True)
class Spent:
    """What one call of an estimator took.

    Attributes:
        full: seconds of the processor to prepare and to score m points.
        more: seconds to score m further points.
        held: bytes kept between the two, beyond the run.
        peak: bytes of memory at most while preparing and scoring, beyond what was in use.
    """

    full: float
    more: float
    held: int
    peak: int


@dataclass(frozen=True)
class Growth:
    """The costs of an estimator along one axis.

    Attributes:
        name: of the contestant.
        axis: one of `sizes.AXES`.
        sizes: along it, ascending.
        spent: for each size, one entry per round.
    """

    name: str
    axis: str
    sizes: tuple[int, ...]
    spent: tuple[tuple[Spent, ...], ...]

    def of(self, what: str) -> list[list[float]]:
        """Returns a cost, "full", "more", "held" or "peak", for each size and round."""
        costs = []
        for row in self.spent:
            values = [float(getattr(one, what)) for one in row]
            costs.append(values)
        return costs


def spend(contestant: Contestant, found: Case) -> Spent:
    """Fits and scores once."""
    estimator = contestant.make(found.sizes.models)
    scorers: list[Callable[..., object]] = []

    def prepare() -> None:
        scorer = estimator.fit(found.trace)
        scorers.append(scorer)
        scorer(found.test)

    with measured(torch.device("cpu")) as cost:
        full = _seconds(prepare)
    held = held_bytes(scorers[0], found.trace)
    more = _seconds(lambda: scorers[0](found.more))
    return Spent(full, more, held, cost.peak_bytes)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return max(LEAST, time.process_time() - start)


def growths(
    contestants: Sequence[Contestant],
    rounds: int,
    factors: Sequence[int] = FACTORS,
) -> Iterator[Growth]:
    """Yields the costs of every contestant along every axis that it knows of.

    The sizes take turns within a round, so that what else the machine does falls on all of them.

    Args:
        contestants: to be measured; along an axis the other sizes stay as in their base.
        rounds: at least one.
        factors: of the base, ascending.
    """
    cases: dict[Sizes, Case] = {}
    for contestant in contestants:
        for axis in contestant.axes:
            series = [contestant.base.grown(axis, factor) for factor in factors]
            for sizes in series:
                if sizes not in cases:
                    cases[sizes] = case(sizes)
            yield _along(contestant, axis, [cases[sizes] for sizes in series], rounds)


def _along(
    contestant: Contestant, axis: str, cases: Sequence[Case], rounds: int
) -> Growth:
    spend(contestant, cases[0])  # warm
    spent: list[list[Spent]] = [[] for _ in cases]
    for _ in range(rounds):
        for place, found in zip(spent, cases, strict=True):
            place.append(spend(contestant, found))
    return Growth(
        name=contestant.name,
        axis=axis,
        sizes=tuple(found.size(axis) for found in cases),
        spent=tuple(tuple(row) for row in spent),
    )
