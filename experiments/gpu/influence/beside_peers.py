"""TracIn against a plain autograd loop and the peers that are installed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from experiments.bench.gradients import autograd_loop, ours
from experiments.bench.peers.installed import peers
from experiments.bench.problem import Problem, posed
from experiments.bench.timing import Timing, race
from experiments.gpu.record import Found
from experiments.gpu.setting import Setting

LOOPED = 20  # the loop goes over one row in so many; its seconds are taken for all
OURS = "poisonbench"
LOOP = "autograd loop"


def beside_peers(
    model: str, n: int, m: int, rounds: int, setting: Setting, found: Found
) -> None:
    """Seconds, times ours, and the distance from our scores, by contestant, as each ends.

    Peers know convolutions and linear layers alone, so the models are the two of
    `experiments.bench.problem`.
    """
    whole = posed(model, setting.rows(n), setting.points(m))
    n = len(whole.train)
    m = len(whole.test)
    first = torch.arange(max(2, n // LOOPED))
    few = replace(whole, train=whole.train.take(first))
    found["n"] = n
    found["m"] = m
    found["checkpoints"] = len(whole.models)
    found["parameters"] = whole.size
    reference = _timed(OURS, ours, whole, rounds, found)
    factor = (n + m) / (len(first) + m)
    loop = _timed(LOOP, autograd_loop, few, rounds, found)
    _tell(loop, factor, reference, found)
    for name, run in peers().items():
        _tell(_timed(name, run, whole, rounds, found), 1.0, reference, found)


@dataclass(frozen=True, eq=False)
class Timed:
    """Seconds of a contestant, and its scores."""

    timing: Timing
    scores: Tensor


def _timed(
    name: str,
    run: Callable[[Problem], Tensor],
    p: Problem,
    rounds: int,
    found: Found,
) -> Timed:
    """Runs a contestant, once on two instances and then `rounds` times."""
    two = torch.arange(2)
    run(replace(p, train=p.train.take(two), test=p.test.take(two)))
    kept: list[Tensor] = []
    contestant = partial(_keep, kept, run, p)
    timings = race({name: contestant}, rounds, p.train.x.device, warm=0)
    timing = timings[name]
    found[name] = {
        "s": [round(seconds, 4) for seconds in timing.seconds],
        "peak MiB": timing.peak_bytes >> 20,
    }
    return Timed(timing, kept[-1])


def _keep(kept: list[Tensor], run: Callable[[Problem], Tensor], p: Problem) -> None:
    kept.append(run(p))


def _tell(timed: Timed, factor: float, reference: Timed, found: Found) -> None:
    """Adds the ratios to our seconds, times `factor`, and how far the scores are apart."""
    pairs = zip(timed.timing.seconds, reference.timing.seconds, strict=True)
    scores = timed.scores
    want = reference.scores[:, : scores.shape[1]]
    told = found[timed.timing.name]
    assert isinstance(told, dict)
    told["x poisonbench"] = [round(factor * own / mine, 3) for own, mine in pairs]
    told["difference"] = float((scores - want).norm() / want.norm())
