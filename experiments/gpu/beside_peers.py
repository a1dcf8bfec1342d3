"""TracIn against a plain autograd loop and the peers that are installed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from experiments.bench.gradients import autograd_loop, ours
from experiments.bench.peers.installed import peers
from experiments.bench.problem import Problem, problem
from experiments.bench.timing import Timing, race
from experiments.gpu.record import Found
from experiments.gpu.setting import Setting

LOOPED = 20  # the loop goes over one row in so many; its seconds are taken for all


def beside_peers(
    model: str, n: int, m: int, rounds: int, setting: Setting, found: Found
) -> None:
    """Seconds, times ours, and the distance from our scores, by contestant.

    Peers know convolutions and linear layers alone, so the models are the two of
    `experiments.bench.problem`.
    """
    if setting.small:
        n = 20
        m = 2
        rounds = 1
    whole, source = problem(model, n, m, setting.device)
    first = torch.arange(n // LOOPED)
    few = replace(whole, train=whole.train.take(first))
    tiny = replace(few, test=whole.test.take(torch.arange(2)))
    results: dict[str, Tensor] = {}
    warm = {"loop": partial(autograd_loop, tiny), "ours": partial(ours, tiny)}
    for name, run in peers().items():
        warm[name] = partial(run, tiny)
    race(warm, 1, setting.device, warm=0)
    runs = {"poisonbench": _kept(results, "poisonbench", ours, whole)}
    for name, run in peers().items():
        runs[name] = _kept(results, name, run, whole)
    runs["autograd loop"] = _kept(results, "autograd loop", autograd_loop, few)
    timings = race(runs, rounds, setting.device, warm=0)
    found["n"] = n
    found["m"] = m
    found["checkpoints"] = len(whole.models)
    found["parameters"] = whole.size
    found["data"] = source
    for name, timing in timings.items():
        factor = 1.0
        if name == "autograd loop":
            factor = (n + m) / (len(first) + m)
        found[name] = _told(timing, factor, timings["poisonbench"], results)


def _kept(
    results: dict[str, Tensor],
    name: str,
    run: Callable[[Problem], Tensor],
    p: Problem,
) -> Callable[[], object]:
    def keep() -> None:
        results[name] = run(p)

    return keep


def _told(
    timing: Timing, factor: float, reference: Timing, results: dict[str, Tensor]
) -> Found:
    pairs = zip(timing.seconds, reference.seconds, strict=True)
    ratios = [round(factor * own / ours_, 3) for own, ours_ in pairs]
    scores = results[timing.name]
    want = results["poisonbench"][:, : scores.shape[1]]
    error = (scores - want).norm() / want.norm()
    return {
        "s": [round(factor * seconds, 4) for seconds in timing.seconds],
        "x poisonbench": ratios,
        "peak MiB": timing.peak_bytes >> 20,
        "difference": float(error),
    }
