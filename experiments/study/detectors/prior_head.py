"""The weights of questions for victims that train the head alone: learned on clean data sets.

Poison against single points is rehearsed there; no attack of the package is run.
The file that ships comes from AVX2 kernels: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2. Other
kernels round otherwise, and which points are taken in follows that.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from defenses.questions.question import side_names
from defenses.questions.table import QUESTIONS
from defenses.rehearsal.points import rehearse_points
from defenses.rehearsal.prior import ALL, HEAD_FILE
from defenses.rehearsal.rehearse import Rehearsal, seed_of
from defenses.rehearsal.weights import learned
from experiments.cli.options import COUNT
from experiments.study.detectors.prior import means_of, rounded, trusting
from poisonbench.data import Dataset, load, stratified, subset
from poisonbench.models.head import head_name
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Start, Trace, train, without_head

NAMES = ("digits", "mnist", "fashion-mnist")
FEATURES = 1000  # rows that the features are trained on
ROWS = 200  # that the head is trained on
VICTIMS = 6  # rehearsals on each, with two attacked points each
RIDGE = 0.3
BELOW = Recipe("cnn", epochs=20, batch_size=64, lr=0.05, checkpoints=1)
HEAD = replace(BELOW, lr=0.1, checkpoints=3)


@dataclass(frozen=True, eq=False)
class Pointed:
    """Rehearsals on a data set.

    Attributes:
        name: of the data set.
        seed: of the victim.
        rehearsals: what they taught.
    """

    name: str
    seed: int
    rehearsals: tuple[Rehearsal, ...]


def pointed(name: str, seed: int) -> Pointed:
    """Rehearses on a clean training set behind features that were trained on other rows."""
    data, test = load(name)
    run = head_alone(data, seed)
    evidence = trusting(run, test, seed)
    found = []
    for number in range(VICTIMS):
        own = seed_of(evidence, 0, number)
        found.append(rehearse_points(evidence, means_of(run), QUESTIONS, own))
    return Pointed(name, seed, tuple(found))


def head_alone(data: Dataset, seed: int) -> Trace:
    """Returns a run that trains the head on 200 rows, behind features of 1,000 others."""
    data = subset(data, FEATURES + ROWS, seed)
    below = torch.zeros(len(data), dtype=torch.bool)
    below[stratified(data, FEATURES, derive(seed, "features"))] = True
    before = train(data.take(below), BELOW, seed)
    state = before.checkpoints[-1].state
    start = Start(without_head(state, head_name(before.model())), "head")
    return train(data.take(~below), replace(HEAD, start=start), seed)


def head_priors_of(found: Sequence[Pointed]) -> dict[str, dict[str, float]]:
    """Returns the priors: "all", and for each data set "without-NAME", learned without it."""
    priors = {ALL: _weights(found)}
    for name in sorted({each.name for each in found}):
        priors[f"without-{name}"] = _weights([one for one in found if one.name != name])
    return priors


def _weights(found: Sequence[Pointed]) -> dict[str, float]:
    sides = side_names(QUESTIONS)
    lessons = [one.lesson for each in found for one in each.rehearsals]
    nothing = torch.zeros(len(sides), dtype=torch.float64)
    return rounded(sides, learned(lessons, nothing, RIDGE).weights.tolist())


@click.command()
@click.option("--seeds", type=COUNT, default=2, help="victims on each data set")
@click.option("--out", default=HEAD_FILE, type=click.Path(path_type=Path))
def prior_head(seeds: int, out: Path) -> None:
    """Learn the weights of questions for victims that train the head alone."""
    found = []
    for name in NAMES:
        for seed in range(seeds):
            found.append(pointed(name, seed))
            click.echo(f"{name} {seed}", err=True)
    told = []
    for each in found:
        success = [one.success for one in each.rehearsals]
        told.append({"data": each.name, "seed": each.seed, "success": success})
    about = {
        "command": f"python -m experiments.study prior-head --seeds {seeds}",
        "rehearsals": told,
    }
    text = json.dumps({"about": about, "priors": head_priors_of(found)}, indent=1)
    out.write_text(text + "\n", encoding="utf-8")
