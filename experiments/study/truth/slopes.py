"""Why the exact derivative of a training run need not tell what happens without half of the rows.

Runs are repeated, in the same batches from the same start, with half of the rows at lower weights:
by a millionth the exact derivative must be right; without these rows nobody has promised it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from estimators.hydra import HyDRA
from estimators.kit.retraining import random_subsets
from experiments.cli.options import COUNT
from experiments.evaluation.kinds.truths import Points, correlations
from experiments.evaluation.metrics import Array
from experiments.study.markdown import table
from experiments.study.truth.weighted import lost
from poisonbench.data import Dataset, load
from poisonbench.models import predict
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train, train_many
from poisonbench.training.trace import Trace

LOWERED = (
    1e-6,
    1e-4,
    0.01,
    0.1,
    0.5,
    1.0,
)  # what half of the rows lose of their weights
AFRESH = "other batches and starts, mean of 5"
REPEATS = 5
FORMS = {"exact": HyDRA(hessian=True), "fast": HyDRA(hessian=False)}


@dataclass(frozen=True, eq=False)
class Slopes:
    """What is held against each other in one run.

    Attributes:
        predicted: form of HyDRA -> (K, m), the summed influence of the rows of each set.
        effects: by what was done to these rows -> (K, m), what the margins lose by it.
    """

    predicted: dict[str, Array]
    effects: dict[str, Array]

    def scores(self, form: str, done: str) -> Array:
        """Returns Spearman's correlations of the points, (m,)."""
        return correlations(self.predicted[form], self.effects[done])


@click.command()
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="Runs.")
@click.option(
    "--sets", type=COUNT, default=60, show_default=True, help="Halves of the rows."
)
@click.option(
    "--points", type=COUNT, default=40, show_default=True, help="Test points."
)
@click.option("--rows", type=int, help="Training rows; all by default.")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="POISONBENCH_DATA")
def slopes(
    seeds: int,
    sets: int,
    points: int,
    rows: int | None,
    data_root: Path | None,
) -> None:
    """Hold both forms of HyDRA against runs in which half of the rows lose weight."""
    data, test = load("digits", data_root)
    recipe = Recipe("mlp", epochs=20, batch_size=64, lr=0.05)
    found = []
    for seed in range(seeds):
        chosen = drawn(test, points, seed)
        own = data
        if rows is not None:
            own = drawn(data, rows, seed)
        one = held_against(own, chosen, recipe, seed, sets)
        found.append(one)
    click.echo(page(found))


def drawn(data: Dataset, size: int, seed: int) -> Dataset:
    """Returns random instances of a data set."""
    draws = generator(seed, "slopes", "rows")
    order = torch.randperm(len(data), generator=draws)
    return data.take(order[:size])


def held_against(
    data: Dataset,
    points: Dataset,
    recipe: Recipe,
    seed: int,
    sets: int,
) -> Slopes:
    """Returns what both forms predict and what becomes of the margins, in float64.

    Args:
        data: n training rows.
        points: m test points, judged at the labels that the run predicts.
        recipe: SGD.
        seed: of the run and of the sets.
        sets: K, of half of the rows each.
    """
    data = data.to(data.x.device, torch.float64)
    trace = train(data, recipe, seed)
    x = points.x.double()
    labels = predict(trace.model(), x).argmax(1)
    seen = points.rows(x, labels)
    n = len(data)
    draws = generator(seed, "slopes")
    left = random_subsets(sets, n, n // 2, draws)
    predicted = {}
    for form, hydra in FORMS.items():
        score = hydra.fit(trace)
        of_rows = score(seen).T
        summed = left.double() @ of_rows
        predicted[form] = summed.numpy()
    effects = {}
    for lowered in LOWERED:
        loss = lost(trace, lowered * left, seen)
        effects[_told(lowered)] = loss.numpy()
    margin = afresh(trace, ~left, seen)
    effects[AFRESH] = -margin.numpy()
    return Slopes(predicted, effects)


def afresh(trace: Trace, kept: Tensor, points: Dataset) -> Tensor:
    """Returns the mean margins (K, m) of trainings on the rows that are kept, (K, n) bool.

    Every training has a start and batches of its own.
    """
    runs = range(REPEATS * len(kept))
    seeds = [derive(trace.seed, "slopes", number) for number in runs]
    ensemble = train_many(
        trace.train,
        kept.repeat(REPEATS, 1),
        trace.by_recipe,
        seeds,
        points=points,
    )
    measured = ensemble.utility(points, "margin", trace.loss)
    found: Tensor = measured.unflatten(0, (REPEATS, -1)).mean(0)
    return found


def _told(lowered: float) -> str:
    return f"the same run, weights lower by {lowered:g}"


def page(found: Sequence[Slopes]) -> str:
    """Returns the table of the runs' scores."""
    body = []
    for done in found[0].effects:
        cells = [_shown(found, form, done) for form in FORMS]
        body.append([done, *cells])
    return table(["half of the rows", *FORMS], body)


def _shown(found: Sequence[Slopes], form: str, done: str) -> str:
    """The mean over points and runs, with its interval."""
    samples = []
    means = []
    for one in found:
        scores = one.scores(form, done)
        finite = np.isfinite(scores)
        defined = scores[finite]
        sample = Points.of(defined[None])
        samples.append(sample)
        means.append(defined.mean())
    intervals = Points.intervals([samples])
    low, high = intervals["score"]
    mean = np.mean(means)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
