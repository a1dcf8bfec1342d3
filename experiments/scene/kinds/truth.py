"""How right an estimator is: what it says of sets of rows, and what training without them says."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.plan.paths import key
from experiments.plan.spec import Method
from experiments.scene.cost import measured, noted
from experiments.scene.kinds.cell import Cell, about_run
from poisonbench import log
from poisonbench.data import Dataset
from poisonbench.errors import LogError
from poisonbench.log import names
from poisonbench.notes import collecting
from poisonbench.seeding import derive
from poisonbench.training import train_many


@dataclass(frozen=True, eq=False)
class Truth:
    """What training again says, of K sets of rows and m points.

    Attributes:
        kept: (K, n) bool, the rows on which models were trained.
        effects: (R, K, m) float64: the measure of each training, or, of paired runs, that of the
            run on all rows less it.
        seconds: of all trainings.
    """

    kept: Tensor
    effects: Tensor
    seconds: float


def judge_estimator(cell: Cell) -> None:
    """Holds an estimator's influence against models trained again; truth-EST-TRUTH.h5.

    The models are those of the scene, trained for its first estimator.
    """
    method = cell.method("truth")
    points = _points(cell, method)
    with noted() as warnings, collecting() as told:
        truth = truth_of(cell, method, points)
        with measured(cell.device) as cost:
            predicted = predictions(cell, method, truth.kept, len(points))
    effects = truth.effects
    sets, columns = torch.meshgrid(
        torch.arange(effects.shape[1]), torch.arange(len(points)), indexing="ij"
    )
    data = {
        names.PAIR_GROUP: sets.flatten(),
        names.PAIR_POINT: columns.flatten(),
        names.EFFECT_PREDICTED: predicted.flatten(),
        names.EFFECT_MEAN: effects.mean(0).flatten(),
        names.EFFECT_FIRST_RUN: effects[0].flatten(),
        names.EFFECT_ERROR: noise_of(effects).flatten(),
    }
    about = about_run(method, cost, warnings) | {"truth_seconds": truth.seconds}
    cell.write(data, about, told)


def noise_of(effects: Tensor) -> Tensor:
    """Returns the standard errors (K, m) of the means over R repeats, NaN where R is 1.

    What a repeat does to all sets alike, such as the run on all rows that paired ones are held
    against, orders no sets, and is left out.

    Args:
        effects: (R, K, m).
    """
    repeats, sets, _ = effects.shape
    if repeats == 1:
        return torch.full_like(effects[0], torch.nan)
    alone = effects - effects.nanmean(1, keepdim=True)
    freedom: float = sets / max(
        1, sets - 1
    )  # for the mean over the sets, which is from the same numbers
    spread: Tensor = alone.std(0)
    return spread.mul((freedom / repeats) ** 0.5)


def _points(cell: Cell, method: Method) -> Dataset:
    test = cell.victim.test
    return test.take(torch.arange(min(method.value.points, len(test))))


def predictions(cell: Cell, method: Method, kept: Tensor, points: int) -> Tensor:
    """Returns the summed influence of each set, (K, m) float64: of those left out, if paired."""
    influence = cell.influence()
    assert influence is not None
    rows = ~kept if method.value.paired else kept
    return rows.double() @ influence[:points].double().T


def truth_of(cell: Cell, method: Method, points: Dataset) -> Truth:
    """Returns what training again says; read where an estimator of the scene has asked before."""
    path = cell.place.scene(cell.scene) / f"ground-{key(method)}.h5"
    config = {"scene": cell.scene.config, "truth": method.config}
    try:
        record = log.read(path, "ground")
        if record.config == config:
            return Truth(
                kept=torch.as_tensor(record.data[names.GROUP_ROWS]),
                effects=torch.as_tensor(record.data[names.EFFECT_RUNS]),
                seconds=float(record.attributes["seconds"]),
            )
    except LogError:
        pass  # absent or damaged: it can be made again
    truth = _trained(cell, method, points)
    data = {names.GROUP_ROWS: truth.kept, names.EFFECT_RUNS: truth.effects}
    attributes = {"seconds": truth.seconds, "seed": cell.scene.seed}
    log.write(path, "ground", config=config, data=data, attributes=attributes)
    shutil.rmtree(_scratch(cell, method), ignore_errors=True)
    return truth


def _scratch(cell: Cell, method: Method) -> Path:
    return cell.place.scratch(cell.scene) / f"ground-{key(method)}"


def _trained(cell: Cell, method: Method, points: Dataset) -> Truth:
    start = time.perf_counter()
    trace = cell.victim.trace
    own = method.value
    kept = own.kept(trace, points, derive(cell.scene.seed, "truth")).cpu()
    sets = kept
    if own.paired:  # the run on all rows comes first
        sets = torch.cat([torch.ones_like(kept[:1]), kept])
    ensemble = train_many(
        trace.train,
        sets.repeat(own.repeats, 1),
        trace.by_recipe,
        seeds_of(method, cell.scene.seed, len(sets)),
        batches="full" if own.paired else "own",
        points=points,
        scratch=_scratch(cell, method),
    )
    measure = ensemble.utility(points, own.measure, trace.loss).double().cpu()
    effects = measure.unflatten(0, (own.repeats, -1))
    if own.paired:
        effects = effects[:, :1] - effects[:, 1:]
    return Truth(kept, effects, time.perf_counter() - start)


def seeds_of(method: Method, seed: int, sets: int) -> list[int]:
    """Returns a seed for each training; paired runs of a repeat share it."""
    found = []
    for repeat in range(method.value.repeats):
        for number in range(sets):
            own = 0 if method.value.paired else number
            found.append(derive(seed, "truth", repeat, own))
    return found
