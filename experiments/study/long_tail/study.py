"""From data to what the study found."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from estimators.downsampling import Downsampling
from experiments.study.long_tail.found import Found
from experiments.study.long_tail.memorised import memorisation, self_influence
from experiments.study.long_tail.removed import RANDOM, accuracies
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training import Recipe, train

MOST = "most memorised"
LEAST = "least memorised"


@dataclass(frozen=True)
class Size:
    """How much is trained.

    Attributes:
        models: on random subsets of the rows, for the memorisation.
        fraction: share of the rows on which each of them trains.
        runs: on all rows, for the estimators.
        repeats: trainings without each set of rows.
    """

    models: int = 400
    fraction: float = 0.7
    runs: int = 3
    repeats: int = 10


def study(
    data: Dataset,
    test: Dataset,
    recipe: Recipe,
    size: Size,
    shares: Sequence[float],
    names: Sequence[str],
    seed: int,
) -> Found:
    """Returns the memorisation of the rows of `data`, and accuracy on `test` without them.

    Rows are removed by their memorisation, by what each estimator says on the first run, and at
    random.
    """
    design = Downsampling(
        models=size.models,
        fraction=size.fraction,
        measure="correct",
    )
    memorised = memorisation(
        data,
        recipe,
        design,
        seed,
    )
    own = []
    for number in range(size.runs):
        run = train(data, recipe, derive(seed, "run", number))
        own.append(self_influence(run, names))
    by_estimator = torch.stack(own, 1)
    scores = {MOST: memorised.score, LEAST: -memorised.score}
    for name, of_runs in zip(names, by_estimator, strict=True):
        scores[name] = of_runs[0]
    accuracy = accuracies(
        data,
        test,
        scores,
        shares,
        recipe,
        size.repeats,
        seed,
    )
    return Found(
        memorised=memorised.score.cpu().numpy(),
        error=memorised.error.cpu().numpy(),
        halves=memorised.halves.cpu().numpy(),
        names=tuple(names),
        own=by_estimator.numpy(),
        ways=(*scores, RANDOM),
        shares=tuple(shares),
        accuracy=accuracy.numpy(),
    )
