"""Memorisation of training rows, by models trained without them, and by estimators.

Feldman & Zhang (NeurIPS 2020, arXiv 2008.03703), eq. 1: how much more often a row is predicted
rightly by models that were trained on it than by models that were not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defenses.filters.loss_rank import LossRank
from estimators.downsampling import Downsampling
from estimators.hydra import HyDRA
from estimators.influence_functions import InfluenceFunctions
from estimators.kit.retraining import with_and_without
from estimators.leave_one_out import LeaveOneOut
from estimators.representer_point import RepresenterPoint
from estimators.shapley.shapley import Shapley
from estimators.tracin import TracIn
from estimators.trak import TRAK
from poisonbench.contracts.values import Evidence
from poisonbench.data import Dataset
from poisonbench.seeding import derive
from poisonbench.training import Recipe, Trace, train_many

LOSS = "loss, no influence"
SLOW = "leave-one-out"
ESTIMATORS = {
    "TracIn": TracIn(),
    "TracIn, balanced": TracIn(weights="balanced"),
    "influence functions": InfluenceFunctions(),
    "EK-FAC": InfluenceFunctions(solver="ekfac"),
    "representer points": RepresenterPoint(),
    "TRAK": TRAK(),
    "HyDRA, fast": HyDRA(hessian=False),
    "KNN-Shapley": Shapley(method="knn"),
    SLOW: LeaveOneOut(measure="margin"),
}
KNOWN = [*ESTIMATORS, LOSS]


@dataclass(frozen=True, eq=False)
class Memorised:
    """How much each of n rows is memorised, in [-1, 1].

    Attributes:
        score: (n,) float64.
        error: (n,) its standard error.
        halves: (2, n), by each half of the models alone.
    """

    score: Tensor
    error: Tensor
    halves: Tensor


def memorisation(
    data: Dataset,
    recipe: Recipe,
    design: Downsampling,
    seed: int,
) -> Memorised:
    """Trains the models of a design, and returns how much each row is memorised.

    Args:
        data: n rows.
        recipe: of the models.
        design: how many models, on which share of the rows.
        seed: of a run on these rows, whose memorisation this is.
    """
    n = len(data)
    masks = design.masks(n, seed)
    seeds = []
    for number in range(design.models):
        own = derive(
            seed,
            "downsampling",
            design.seed,
            number,
        )
        seeds.append(own)
    ensemble = train_many(
        data,
        masks,
        recipe,
        seeds,
        points=data,
    )
    values = ensemble.utility(data, design.measure)
    score, error = with_and_without(values, masks, paired=True)
    middle = design.models // 2
    halves = []
    for part in (slice(None, middle), slice(middle, None)):
        own_score, _ = with_and_without(
            values[part],
            masks[part],
            paired=True,
        )
        halves.append(own_score)
    return Memorised(
        score=score,
        error=error,
        halves=torch.stack(halves),
    )


def self_influence(
    run: Trace,
    names: Sequence[str],
    known: Mapping[str, object] = ESTIMATORS,
) -> Tensor:
    """Returns what each estimator says of each row of the run's training set, (E, n) float64."""
    found = []
    for name in names:
        if name == LOSS:
            scores = LossRank()(Evidence(run, run.train))
        else:
            estimator: TracIn = known[name]  # type: ignore[assignment]  # as all of them
            scores = estimator.self_influence(run)
        found.append(scores.double().cpu())
    return torch.stack(found)
