"""The weights of questions that the package brings: learned on clean public data sets.

A training set of each is rehearsed on as a defender would; no attack of the package is run.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from defenses.questions.question import side_names
from defenses.questions.table import QUESTIONS
from defenses.rehearsal.prior import ALL, ANY, FILE
from defenses.rehearsal.rehearse import Lesson, Rehearsal, rehearse, seed_of
from defenses.rehearsal.weights import learned
from estimators.gas import GAS
from experiments.cli.options import COUNT
from experiments.study.detectors.sources import SOURCES, Source
from poisonbench.contracts.values import Evidence, Means
from poisonbench.data import Dataset, load, subset
from poisonbench.models import predict
from poisonbench.seeding import generator
from poisonbench.training import Trace, train

TRUSTED = 100
RIDGE = 0.1
DIGITS = 4  # of a weight, behind the point


@dataclass(frozen=True, eq=False)
class Taught:
    """A rehearsal on a source.

    Attributes:
        source: the data set.
        kind: of its instances.
        seed: of the victim.
        rehearsal: what it taught.
    """

    source: Source
    kind: str
    seed: int
    rehearsal: Rehearsal


def taught(source: Source, seed: int) -> Taught:
    """Rehearses on the clean training set of a source, as `rehearsed` does on a victim's."""
    data, test = load(source.name)
    if source.rows is not None:
        data = subset(data, source.rows, seed)
    if source.flat:
        data = _flat(data)
        test = _flat(test)
    run = train(data, source.recipe, seed)
    evidence = trusting(run, test, seed)
    rehearsal = rehearse(
        evidence, means_of(run), QUESTIONS, leave_out=(), seed=seed_of(evidence, 0, 0)
    )
    return Taught(source, str(data.kind), seed, rehearsal)


def trusting(run: Trace, test: Dataset, seed: int) -> Evidence:
    """Returns what a defender has of a run: trusted points as it predicts them, drawn of `test`."""
    order = torch.randperm(len(test), generator=generator(seed, "trusted"))
    points = test.take(order[:TRUSTED])
    points = points.relabel(predict(run.model(), points.x).argmax(1))
    return Evidence(run, points, trusted=torch.ones(len(points), dtype=torch.bool))


def _flat(data: Dataset) -> Dataset:
    return Dataset(data.x.flatten(1), data.y, data.classes)


def means_of(run: Trace) -> Means:
    """Returns the means of a defender who has the recipe of a run, with GAS."""

    def again(data: Dataset) -> Trace:
        return train(data, run.by_recipe, run.seed)

    return Means(
        retrain=lambda keep: again(run.train.take(keep)),
        influence=lambda trace, points: GAS().fit(trace)(points),
        train=again,
    )


def weights_of(rehearsals: Sequence[Taught]) -> dict[str, dict[str, float]]:
    """Returns kind -> question -> weight: of all rehearsals for any kind, then of each.

    Those of a kind are drawn to those of all.
    """
    sides = side_names(QUESTIONS)
    nothing = torch.zeros(len(sides), dtype=torch.float64)
    whole = learned(_lessons(rehearsals), nothing, RIDGE).weights
    found = {ANY: whole}
    for kind in sorted({each.kind for each in rehearsals}):
        own = [each for each in rehearsals if each.kind == kind]
        found[kind] = learned(_lessons(own), whole, RIDGE).weights
    return {kind: rounded(sides, weights.tolist()) for kind, weights in found.items()}


def rounded(sides: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Returns side of a question -> weight, as the file holds it."""
    pairs = zip(sides, weights, strict=True)
    return {side: round(weight, DIGITS) for side, weight in pairs}


def _lessons(rehearsals: Sequence[Taught]) -> list[Lesson]:
    return [each.rehearsal.lesson for each in rehearsals]


def priors_of(rehearsals: Sequence[Taught]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the priors: "all", and for each data set "without-NAME", learned without it."""
    found = {ALL: weights_of(rehearsals)}
    for name in sorted({each.source.name for each in rehearsals}):
        others = [each for each in rehearsals if each.source.name != name]
        if others:
            found[f"without-{name}"] = weights_of(others)
    return found


@click.command()
@click.option("--seeds", type=COUNT, default=2, help="rehearsals on each data set")
@click.option("--out", default=FILE, type=click.Path(path_type=Path))
def prior(seeds: int, out: Path) -> None:
    """Learn the weights of questions that ship with the package."""
    rehearsals = _rehearsed(seeds)
    told = [_told(each) for each in rehearsals]
    about = {
        "command": f"python -m experiments.study prior --seeds {seeds}",
        "rehearsals": told,
    }
    text = json.dumps({"about": about, "priors": priors_of(rehearsals)}, indent=1)
    out.write_text(text + "\n", encoding="utf-8")


def _rehearsed(seeds: int) -> list[Taught]:
    rehearsals = []
    for source in SOURCES:
        for seed in range(seeds):
            start = time.perf_counter()
            each = taught(source, seed)
            seconds = time.perf_counter() - start
            rehearsals.append(each)
            click.echo(f"{_told(each)} {seconds:.0f} s", err=True)
    return rehearsals


def _told(each: Taught) -> dict[str, Any]:
    """Returns what the file says of a rehearsal."""
    success = each.rehearsal.success
    return {
        "data": each.source.name,
        "kind": each.kind,
        "rows": each.source.rows,
        "model": each.source.recipe.model,
        "seed": each.seed,
        "success": {family: round(share, 2) for family, share in success.items()},
    }
