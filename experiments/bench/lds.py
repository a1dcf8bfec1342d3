"""Linear datamodeling score (Park et al., ICML 2023, arXiv 2303.14186) of influence functions.

For each test point the rank correlation, over random half subsets of the training set, between the
sum of the estimated influences of a subset's rows and the margin of models trained on that subset.
Scores depend on how many trainings a subset's margin is the mean of: with one, the noise of the
seed covers most of what the subset does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from estimators.influence_functions import InfluenceFunctions
from estimators.kit.retraining import random_subsets
from estimators.trak import TRAK
from experiments.bench.peers.installed import kronfluence_ekfac, traker
from experiments.bench.timing import machine, table
from experiments.scene.cost import measured
from poisonbench.contracts.protocols import Estimator
from poisonbench.data import Dataset, load
from poisonbench.models import predict
from poisonbench.seeding import derive, generator
from poisonbench.training import Recipe, train, train_many
from poisonbench.training.trace import Trace

WIDTH = 1.96  # standard errors on either side of an interval of 95 %
OURS: dict[str, Estimator] = {
    "ekfac": InfluenceFunctions("ekfac"),
    "ekfac, one drawn label": InfluenceFunctions("ekfac", samples=1),
    "ekfac, damping 0.01": InfluenceFunctions("ekfac", damping=0.01),
    "cg": InfluenceFunctions(),
    "trak": TRAK(),
    "trak, 3 models, k = 512, no ridge": TRAK(models=3, dimensions=512, ridge=0.0),
    "trak, 3 models": TRAK(models=3),
    "trak, 10 models": TRAK(models=10),
}
# what the differences are taken to, where it is installed
REFERENCES = {
    "its default": "kronfluence ekfac",
    "its heuristic damping": "kronfluence ekfac, its heuristic damping",
}


@dataclass(frozen=True, eq=False)
class Study:
    """One run, and what models trained on subsets of its training set make of m test points.

    Attributes:
        trace: the run whose scores are judged.
        test: m points with the labels that the run predicts.
        masks: (K, n) bool, the subsets.
        margins: (K, m), the mean over the trainings on each subset.
        single: (K, m), of the first training on each subset.
    """

    trace: Trace
    test: Dataset
    masks: Tensor
    margins: Tensor
    single: Tensor


@dataclass(frozen=True)
class Outcome:
    """A contestant's scores on one study.

    Attributes:
        scores: (m,) linear datamodeling scores against the mean margins.
        single: (m,) against the margins of one training per subset.
        seconds: of fitting and scoring.
    """

    scores: np.ndarray
    single: np.ndarray
    seconds: float


def study(
    model: str,
    seed: int,
    subsets: int,
    points: int,
    repeats: int,
    scratch: Path | None = None,
) -> Study:
    """Trains on the digits, and `repeats` times on each of the random halves of them.

    Args:
        model: name.
        seed: of the run that is judged.
        subsets: K.
        points: m.
        repeats: trainings per subset, each from a seed of its own.
        scratch: folder that keeps finished trainings for a later call.
    """
    data, held_out = load("digits")
    recipe = Recipe(model=model, epochs=20, batch_size=64, lr=0.05, checkpoints=1)
    trace = train(data, recipe, seed)
    draws = generator(seed, "lds")
    test = held_out.take(torch.randperm(len(held_out), generator=draws)[:points])
    test = test.relabel(predict(trace.model(), test.x).argmax(1))
    masks = random_subsets(subsets, len(data), len(data) // 2, draws)
    seeds = [derive(seed, "lds", r, k) for r in range(repeats) for k in range(subsets)]
    ensemble = train_many(
        data,
        masks.repeat(repeats, 1),
        recipe,
        seeds,
        points=test,
        scratch=scratch,
    )
    margins = ensemble.utility(test, "margin").unflatten(0, (repeats, subsets))
    return Study(trace, test, masks, margins.mean(0), margins[0])


def datamodeling_scores(
    influence: Tensor, masks: Tensor, margins: Tensor
) -> np.ndarray:
    """Returns the linear datamodeling score of each test point, (m,).

    Args:
        influence: (m, n); of the loss or of the margin, whose scale per test point does not matter.
        masks: (K, n) bool, the subsets.
        margins: (K, m), of models trained on them.

    Returns:
        Spearman's rank correlations; NaN where all predictions or all margins are equal.
    """
    predicted = influence.double() @ masks.double().T
    a = _standard_ranks(predicted.numpy())
    b = _standard_ranks(margins.double().T.numpy())
    correlation: np.ndarray = (a * b).mean(axis=1)
    return correlation


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Returns the ranks along each row, ties averaged, with mean 0 and variance 1."""
    ranks = rankdata(values, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        standard: np.ndarray = centred / centred.std(axis=1, keepdims=True)
    return standard


def interval(values: np.ndarray) -> str:
    """Returns the mean over the points with a score, and its interval of 95 %."""
    known = values[np.isfinite(values)]
    half = WIDTH * known.std(ddof=1) / len(known) ** 0.5
    return f"{known.mean():.3f} [{known.mean() - half:.3f}, {known.mean() + half:.3f}]"


def judge(contestant: Estimator, on: Study) -> Outcome:
    """Returns how well a contestant's influences foretell the margins of the subsets."""
    with measured(on.test.x.device) as cost:
        influence = contestant.fit(on.trace)(on.test)
    scores = datamodeling_scores(influence, on.masks, on.margins)
    single = datamodeling_scores(influence, on.masks, on.single)
    return Outcome(scores, single, cost.seconds)


def bench(
    models: list[str],
    seeds: list[int],
    subsets: int,
    points: int,
    repeats: int,
    scratch: Path | None = None,
) -> str:
    """Returns the report: a table per model, over the points of all seeds."""
    contestants: dict[str, Estimator] = {**OURS, **kronfluence_ekfac(), **traker()}
    blocks = []
    for model in models:
        found: dict[str, list[Outcome]] = {name: [] for name in contestants}
        for seed in tqdm(seeds, desc=model, disable=None):
            on = study(model, seed, subsets, points, repeats, scratch)
            for name, contestant in contestants.items():
                found[name].append(judge(contestant, on))
        blocks.append(f"{model}\n\n{_table(found)}\n")
    n = len(load("digits")[0])
    what = f"digits, n = {n}, {subsets} half subsets trained {repeats} times each"
    where = f"{points} test points for each of the seeds {', '.join(map(str, seeds))}"
    head = (
        f"Linear datamodeling score: {what}; {where}. {machine(torch.device('cpu'))}."
    )
    return "\n".join([head, "", *blocks])


def _table(found: Mapping[str, list[Outcome]]) -> str:
    rows = []
    references = {}
    for title, name in REFERENCES.items():
        if name in found:
            references[f"less kronfluence, {title}"] = _scores(found[name])
    for name, outcomes in found.items():
        scores = _scores(outcomes)
        apart = [interval(scores - reference) for reference in references.values()]
        single = np.concatenate([outcome.single for outcome in outcomes])
        seconds = np.mean([outcome.seconds for outcome in outcomes])
        row = (name, interval(scores), *apart, interval(single), f"{seconds:.1f}")
        rows.append(row)
    head = ("", "score", *references, "one training per subset", "seconds")
    return table(head, rows)


def _scores(outcomes: list[Outcome]) -> np.ndarray:
    """Returns the scores of the points of all seeds."""
    return np.concatenate([outcome.scores for outcome in outcomes])
